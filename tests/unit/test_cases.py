"""Small inputs that failed once (../shared/cases) and belong to no single wing, by number.

Others stand where their wing is tested: 08, 10, 11 and 20 in inspection/, 03, 04 and 07 in
../parity/test_families.py, 14, 15, 17, 18, 24 and 25 in sources/test_cases.py, 21 and 22 in
../chain/test_run.py, 01 in ../chain/test_rehearsal.py (a cpt and a dpo stage through 03).
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from sm70lib import benchmarks
from sm70lib.asking import fitting, prompts
from sm70lib.evaluation import lines, scoring
from sm70lib.models import loading
from sm70lib.models.backend import Local
from sm70lib.protocols import replies
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from tests.asked import run_of, study_with_items


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = ROOT.parent / "shared/cases"
    if not folder.is_dir():
        pytest.skip(f"no cases: {folder} is not there")
    return folder


def test_case_02_a_model_of_ones_own_as_the_base_reads_the_invented_world(tmp_path):
    """The first variant that a newcomer tries; before, 00 asked for a step that 00 itself is."""
    study = params.load(
        ROOT / "params/tiny.yml", overrides={"study": "case02", "base_model": str(tmp_path)}
    )
    assert study.base_model == str(tmp_path) and study.data_root == "world"


def test_case_06_a_length_that_stands_in_a_nested_configuration(tmp_path):
    text = {
        "vocab_size": 400,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "head_dim": 16,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = AutoConfig.for_model(
        "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert Local(loading.load(tmp_path), None).max_tokens == 2048


@pytest.mark.parametrize("name", ["meta-llama/Llama-2-7b-hf", "tuned", "base", "base-nf4"])
def test_case_12_a_name_that_no_table_could_show_is_refused(name):
    models = {name: "outputs/somewhere"}
    with pytest.raises(StudyError, match="eval_models"):
        params.load(ROOT / "params/tiny.yml", overrides={"study": "t", "eval_models": models})


def test_case_13_answers_count_from_zero_in_a_json_file_of_the_hub(cases):
    left_out: list = []
    items = benchmarks.read("medmcqa", cases / "13", None, left_out)
    assert [item.options[item.answer] for item in items] == ["Vitamin C", "Femur", "Insulin"]
    assert not left_out


def test_case_19_written_replies(cases, monkeypatch):
    monkeypatch.setitem(sys.modules, "sm70lib.replies", replies)  # its name at that commit
    spec = importlib.util.spec_from_file_location("case_19", cases / "19/replies.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wrong = [
        text for text, options, right in module.CASES if replies.choice(text, options) != right
    ]
    assert len(module.CASES) == 14 and not wrong


def test_case_23_predictions_of_an_earlier_version_are_scored_again_and_kept(tmp_path):
    """Their `.meta.json` has no digest of the prompts, so nobody knows what was asked."""
    folder, p = study_with_items(tmp_path)
    p.eval_protocols = ["sm70-2023"]
    which = scoring.Model("base", str(folder / "base/model"))
    asked = scoring.runs(p, folder / "data/benchmarks")
    scoring.score_model(which, p, asked, folder)
    (path,) = folder.glob("predictions/base/*.jsonl")
    meta = path.with_suffix(".meta.json")
    about = json.loads(meta.read_text())
    del about["prompts_digest"]
    meta.write_text(json.dumps(about))
    rendered = prompts.Prompts(asked[0], loading.load_tokenizer(which.source))
    with pytest.raises(StudyError, match="--fresh 04"):
        lines.finished(path, rendered, which.identity())
    scoring.keep([which], asked, folder)
    assert not path.exists() and list(folder.glob("**/replaced/**/*.jsonl"))


def test_case_26_a_study_file_of_another_encoding(tmp_path):
    text = (ROOT / "params/tiny.yml").read_text()
    for name, content in (
        ("utf-16", text.encode("utf-16")),
        ("bom", text.encode("utf-8-sig")),
        ("crlf", text.replace("\n", "\r\n").encode()),
    ):
        path = tmp_path / f"{name}.yml"
        path.write_bytes(content)
        assert params.load(path) == params.load(ROOT / "params/tiny.yml")


def test_case_26_a_chat_template_with_a_bos_gives_one(tokenizer):
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ message.content }}\n{% endfor %}"
    )
    (prompt,) = prompts.Prompts(run_of(1, "harness"), tokenizer, chat=True)
    (request,) = fitting.usable(prompt, run_of(1, "harness").protocol, tokenizer, 4096, None)
    assert request.context.count(tokenizer.bos_token_id) == 1
