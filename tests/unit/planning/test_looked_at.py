"""The plan looks at the models of eval_models as 04 will ask them, before anything is trained."""

import shutil

import pytest
from transformers import AutoTokenizer

from sm70lib.corpus import templates
from sm70lib.corpus.chat import PLAIN
from sm70lib.models import loading
from sm70lib.planning import forecast
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from tests import small

EVAL = ["03_qlora_finetune", "04_eval"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base without a chat template."""
    folder = tmp_path_factory.mktemp("base")
    small.base(folder)
    return folder / "base/model"


def looked_at(line: str, running: list[str], **changes) -> None:
    given = {"study": "looked", "eval_models": {"mine": line}} | changes
    forecast._look(params.load(ROOT / "params/tiny.yml", overrides=given), running)


def test_a_model_without_a_chat_template_is_refused_and_chat_yes_is_the_remedy(base):
    said = "^eval_models: mine: data_template is chat, but the tokenizer of .* has no chat template"
    with pytest.raises(StudyError, match=f"{said}; add chat=yes to its line, .* or take it out$"):
        looked_at(str(base), EVAL, data_template="chat")
    looked_at(f"{base} chat=yes", EVAL, data_template="chat")
    looked_at(str(base), EVAL)
    looked_at(str(base), ["03_qlora_finetune"], data_template="chat")
    plain = {"eval_protocols": ["harness"], "eval_primary_protocol": "harness"}
    looked_at(str(base), EVAL, data_template="chat", **plain)


def test_a_model_with_a_chat_template_is_asked_in_it(base, tmp_path):
    shutil.copytree(base, tmp_path / "talks")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = PLAIN
    tokenizer.save_pretrained(tmp_path / "talks")
    looked_at(str(tmp_path / "talks"), EVAL, data_template="chat")


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_what_was_trained_in_another_template_is_refused(base, tmp_path, kind):
    if kind == "adapter":
        small.with_adapter(loading.load(base)).save_pretrained(tmp_path / "tuned")
        line = f"{base} adapter={tmp_path / 'tuned'}"
    else:
        shutil.copytree(base, tmp_path / "tuned")
        line = str(tmp_path / "tuned")
    templates.leave_digest(tmp_path / "tuned", "sm70")
    said = r"was trained in the template sm70 \(.*\) and would be asked in medalpaca \(.*\): set "
    with pytest.raises(StudyError, match=f"^eval_models: mine: .*{said}data_template .* chat=yes"):
        looked_at(line, EVAL)
    looked_at(line, EVAL, data_template="sm70")
    looked_at(f"{line} chat=yes", EVAL)


def test_the_tokenizer_of_a_model_on_a_server_is_looked_at(base, tmp_path):
    line = "served=http://127.0.0.1:9/v1 model=large tokenizer="
    with pytest.raises(StudyError, match="^eval_models: mine: tokenizer: there is no folder ../no"):
        looked_at(f"{line}../nowhere", EVAL)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(StudyError, match="^eval_models: mine: tokenizer: .* cannot be read"):
        looked_at(f"{line}{tmp_path}", EVAL)
    looked_at(f"{line}../nowhere", ["03_qlora_finetune"])
    looked_at(f"{line}{base}", EVAL)
