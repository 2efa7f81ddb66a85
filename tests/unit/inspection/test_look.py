"""Every model is looked at before the first is loaded: it is used, or refused in a sentence.

Folders and adapters are such as others publish. Scores with an adapter are compared with those of
plain transformers and PEFT.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from sm70lib.evaluation import candidates
from sm70lib.inspection.look import look
from sm70lib.models import loading
from sm70lib.models.backend import Local
from sm70lib.models.request import Request
from sm70lib.steps import weights
from sm70lib.study.params import StudyError
from tests import small

ASKED = Request([5, 6, 7, 8, 9], [[10], [11, 12]])
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer_config.json", "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    small.base(folder)
    return folder / "base/model"


@pytest.fixture
def p():
    return small.parameters(
        eval_models={}, eval_protocols=["sm70-2023"], eval_shots=[0], eval_batch_tokens=512
    )


def seen(p, line: str):
    """The model that a line of eval_models names, after the look at it, and what was said."""
    p.eval_models["mine"] = line
    which = candidates.described("mine", line)
    return which, look(which, p)


def text(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


def edit(name: str, **values):
    def change(folder):
        whole = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps(whole))

    return change


def stored(**how):
    return edit(CONFIG, quantization_config=how)


def cut_short(folder):
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])


def with_more_tokens(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|patient|>"])
    tokenizer.save_pretrained(folder)


IMAGE = "<image_soft_token>"  # beyond the rows of google/gemma-3-1b-it (transformers#37011)


def with_special_token(use: str, template: str | None = None):
    """One special token more than the model has embeddings, and what it is used for."""

    def change(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE]})
        if use:
            setattr(tokenizer, use, IMAGE)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)

    return change


def of_kind(kind: str, **sizes):
    """Another family's configuration in place of the base's."""

    def change(folder):
        config = transformers.AutoConfig.for_model(kind, **sizes)
        (folder / CONFIG).write_text(config.to_json_string())

    return change


@pytest.mark.parametrize(
    "change, words, sentence",
    [
        (lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), "", r"has no \*.safetensors"),
        (text(WEIGHTS, POINTER), "", "is a Git LFS pointer.*: run git lfs pull"),
        (cut_short, "", "model.safetensors is damaged or incomplete"),
        (text(f"{WEIGHTS}.index.json", json.dumps(INDEX)), "", "lacks model-00001-of-00002"),
        (lambda f: (f / CONFIG).unlink(), "", "cannot be read"),
        (edit(CONFIG, model_type="llama9"), "", "cannot be read .*llama9"),
        (
            edit(CONFIG, model_type="own", auto_map={"AutoConfig": "code.Own"}),
            "",
            "brings Python code of its own, which is not run",
        ),
        (of_kind("t5"), "", r"is an encoder-decoder \(t5\)"),
        (of_kind("bert"), "", r"is an encoder \(bert\), which fills gaps"),
        (of_kind("llava"), "", "of the family llava, which transformers loads as no causal"),
        (edit(CONFIG, architectures=["LlamaForSequenceClassification"]), "", "has no language mod"),
        (edit(CONFIG, architectures=["LlamaModel"]), "", "is a LlamaModel, which has no language"),
        (stored(quant_method="gptq", bits=4), "", r"stored quantised \(gptq\), which cannot"),
        (stored(quant_method="awq", bits=4), "", r"stored quantised \(awq\), which cannot"),
        (stored(quant_method="fp8"), "quant=nf4", "already .fp8., and cannot be quantised to NF4"),
        (
            lambda f: (f / "tokenizer.json").write_text("{"),
            "",
            "the tokenizer of .* cannot be read",
        ),
        (with_more_tokens, "", r"has 1 tokens for which the model has no embedding .*patient"),
        (with_special_token("eos_token"), "", r"has 1 tokens for which .*such as '<image_soft"),
        (with_special_token("bos_token"), "", r"has 1 tokens for which .*such as '<image_soft"),
        (
            with_special_token("", IMAGE + "{{ messages[0]['content'] }}"),
            "chat=yes",
            r"has 1 tokens for which .*such as '<image_soft",
        ),
        (
            edit(TOKENIZER, chat_template="{{ raise_exception('no') }}"),
            "chat=yes",
            r"chat=yes, but the chat template of .* renders no question \(no\)",
        ),
        (edit(TOKENIZER, chat_template="Hello"), "chat=yes", "leaves the question out"),
    ],
)
def test_a_folder_that_cannot_be_scored_is_one_sentence(base, p, tmp_path, change, words, sentence):
    """Cases 07 and 11."""
    shutil.copytree(base, tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(StudyError, match=f"^eval_models: mine: .*{sentence}") as refused:
        seen(p, f"{tmp_path / 'copy'} {words}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("/nowhere/at/all", "there is no folder /nowhere/at/all"),
        ("a/b/c", "there is no folder a/b/c; a relative one starts at the repository"),
        ("{base} adapter=/nowhere", "there is no folder /nowhere"),
        ("{base} adapter={base}", "is not an adapter: it needs adapter_config.json and"),
    ],
)
def test_a_folder_that_is_not_there_is_one_sentence(base, p, line, sentence):
    with pytest.raises(StudyError, match=f"^eval_models: mine: .*{sentence}"):
        seen(p, line.format(base=base))


@pytest.mark.parametrize("use", ["", "pad_token"])
@pytest.mark.parametrize(
    "template", [None, "{{ messages[0]['content'] }}", "{{ raise_exception('no') }}"]
)
def test_a_special_token_that_nothing_writes_needs_no_embedding(base, p, tmp_path, use, template):
    shutil.copytree(base, tmp_path / "copy")
    with_special_token(use, template)(tmp_path / "copy")
    assert "ends at </s>" in seen(p, str(tmp_path / "copy"))[1]


def test_what_is_said_of_a_model(base, p, tmp_path):
    shutil.copytree(base, tmp_path / "copy")
    edit(TOKENIZER, bos_token=None)(tmp_path / "copy")
    _, said = seen(p, f"{base} quant=nf4 chat=yes")
    assert (
        said.startswith("mine: llama, ") and "weights in NF4; begins with <s>; ends at </s>" in said
    )
    assert "asked in Med42's words, as it has none; needs 0." in said
    assert "in float32; has no BOS" in seen(p, str(tmp_path / "copy"))[1]


def test_relative_folders_start_at_the_repository(base, p, tmp_path, monkeypatch):
    """Case 20: JupyterLab's kernel runs in notebooks/, the runner's in the repository."""
    monkeypatch.setattr(weights, "ROOT", base.parent)
    monkeypatch.chdir(tmp_path)
    which, _ = seen(p, "model")
    assert which.source == str(base) and loading.load("model").config.model_type == "llama"
    (tmp_path / "base").mkdir()
    (tmp_path / "base/base.json").write_text('{"model": "model"}')
    assert loading.located(tmp_path) == str(base)


def test_a_checkpoint_in_nf4_is_loaded_as_it_was_stored(base, tmp_path):
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=four)
    model.save_pretrained(tmp_path)
    ids = torch.tensor([ASKED.context])
    assert torch.equal(loading.load(tmp_path)(ids).logits, model(ids).logits)


def test_weights_that_are_missing_are_not_drawn(base, tmp_path):
    shutil.copytree(base, tmp_path / "copy")
    model = AutoModelForCausalLM.from_pretrained(base)
    kept = {name: weight for name, weight in model.state_dict().items() if "norm" not in name}
    model.save_pretrained(tmp_path / "copy", state_dict=kept)
    with pytest.raises(StudyError, match="lacks 5 of the model's weights, such as model.layers.0"):
        loading.load(tmp_path / "copy")


# ---- adapters of other people --------------------------------------------------------------------

LINEAR = {"r": 4, "target_modules": "all-linear"}
ADAPTERS = {
    "lora": LINEAR,
    "rslora": LINEAR | {"use_rslora": True},
    "dora": LINEAR | {"use_dora": True},
    "embeddings": {"r": 4, "target_modules": ["embed_tokens", "q_proj"]},
    "head": {"r": 4, "target_modules": ["lm_head"]},
    "norm": {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["norm"]},
    "tokens": {"r": 4, "target_modules": ["q_proj"], "trainable_token_indices": [5, 10]},
    "bias": {"r": 4, "target_modules": ["q_proj"], "bias": "all"},
    "resized": LINEAR | {"modules_to_save": ["embed_tokens", "lm_head"]},
}


def published(base: Path, folder: Path, kind: str) -> Path:
    """An adapter of a kind, as PEFT saves it; `resized` has two tokens of its own."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if kind == "resized":
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_tokens(["<|patient|>", "<|doctor|>"])
        tokenizer.save_pretrained(folder)
        model.resize_token_embeddings(len(tokenizer))
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **ADAPTERS[kind]))
    torch.manual_seed(1)
    for weight in tuned.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape)
    tuned.save_pretrained(folder)
    return folder


@torch.no_grad()
def by_peft(base: Path, adapter: Path) -> list[float]:
    """Scores as a user of transformers and PEFT gets them, one option a pass."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if (adapter / "tokenizer.json").exists():
        model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(adapter)))
    model = PeftModel.from_pretrained(model, adapter).eval()
    values = []
    for option in ASKED.options:
        logs = model(torch.tensor([[*ASKED.context, *option]])).logits[0].log_softmax(-1)
        start = len(ASKED.context) - 1
        values.append(sum(logs[start + n, token].item() for n, token in enumerate(option)))
    return values


def test_a_tokenizer_with_code_of_its_own_runs_none_and_nobody_is_asked(base, tmp_path, capfd):
    folder = tmp_path / "copy"
    shutil.copytree(base, folder)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit(TOKENIZER, tokenizer_class="Own", auto_map={"AutoTokenizer": ["code.Own", None]})(folder)
    try:
        assert loading.load_tokenizer(folder).encode("Which?")
    except ValueError as error:  # what transformers says of it
        assert "trust_remote_code" in str(error)
    assert not (tmp_path / "ran").exists() and "[y/N]" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "pattern, said", [(r"(\w+\.?)+!", "repeats inside of repeats"), ("[", "not a regular")]
)
def test_an_adapter_whose_pattern_takes_for_ever_is_one_sentence(base, p, tmp_path, pattern, said):
    adapter = published(base, tmp_path, "lora")
    edit("adapter_config.json", target_modules=pattern)(adapter)
    with pytest.raises(StudyError, match=f"adapter_config.json: target_modules .*{said}"):
        seen(p, f"{base} adapter={adapter}")


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_of_others_scores_as_in_peft(base, p, tmp_path, kind):
    """Cases 10 and 26."""
    adapter = published(base, tmp_path / kind, kind)
    which, said = seen(p, f"{base} adapter={adapter}")
    assert "all of which fit" in said
    assert which.words == str(adapter if kind == "resized" else base)
    model = Local(loading.load(which.source, None, which.adapter), None, longest=100)
    alone = Local(loading.load(base), None, longest=100).loglikelihoods([ASKED])
    scores = model.loglikelihoods([ASKED])
    assert np.abs(np.array(scores) - by_peft(base, adapter)).max() < 1e-4
    assert np.abs(np.array(scores) - alone).max() > 1e-3


def test_a_pickled_adapter_is_refused_before_anything_is_loaded(base, p, tmp_path):
    """Case 10, which was an error of PEFT's; a pickle can run code, so it is a sentence now."""
    adapter = published(base, tmp_path, "lora")
    weights = load_file(adapter / "adapter_model.safetensors")
    torch.save(weights, adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(StudyError, match="adapter_model.safetensors, .*read in no other format"):
        seen(p, f"{base} adapter={adapter}")


def test_a_tokenizer_of_its_own_counts_in_the_identity(base, p, tmp_path):
    adapter = published(base, tmp_path, "lora")
    line = f"{base} adapter={adapter}"
    without = candidates.described("mine", line).identity()
    AutoTokenizer.from_pretrained(base).save_pretrained(adapter)
    candidates._has_words_of_its_own.cache_clear()
    assert candidates.described("mine", line).identity() == without, "it is the base's"
    with_more_tokens(adapter)
    candidates._has_words_of_its_own.cache_clear()
    assert candidates.described("mine", line).identity() != without
    with pytest.raises(StudyError, match="1 tokens for which the model has no embedding"):
        seen(p, line)


def test_an_adapter_for_another_model_is_refused_before_it_is_loaded(base, p, tmp_path):
    """Case 08."""
    adapter = published(base, tmp_path / "adapter", "lora")
    small.base(tmp_path, base_hidden_size=32)
    with pytest.raises(StudyError, match="does not fit its base: size mismatch"):
        seen(p, f"{tmp_path / 'base/model'} adapter={adapter}")


def test_an_adapter_that_puts_words_before_prompts_is_refused(base, p, tmp_path):
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), prompts).save_pretrained(tmp_path)
    with pytest.raises(StudyError, match="is a PROMPT_TUNING adapter, which puts words before"):
        seen(p, f"{base} adapter={tmp_path}")
