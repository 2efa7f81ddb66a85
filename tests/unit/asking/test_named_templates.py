"""A tokenizer with several chat templates, each with a name, is asked in the default one."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

from sm70lib import protocols
from sm70lib.asking.prompts import Prompts
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item
from sm70lib.corpus import chat
from sm70lib.inspection import tokenizers
from sm70lib.models import writing
from sm70lib.study.params import StudyError
from tests import small

RUN = Run(
    "own", protocols.named("med42"), 0, [Item("1", "1", "own", "What?", "", ("a", "b"), 0)], []
)
TURN = chat.PLAIN
NAMED = {"default": TURN, "tool_use": "tools"}


@pytest.fixture
def tokenizer_with(tmp_path):
    """A tokenizer as it comes back from a folder, with one or several chat templates."""
    small.base(tmp_path)

    def made(template, name: str = "copy"):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base/model")
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / name)
        return AutoTokenizer.from_pretrained(tmp_path / name)

    return made


def test_what_is_asked_stands_in_the_default(tokenizer_with):
    several, one = tokenizer_with(NAMED), tokenizer_with(TURN, "one")
    assert isinstance(several.chat_template, dict), "transformers has read both"
    asked, same = (Prompts(RUN, each, chat=True) for each in (several, one))
    assert asked[0].text == same[0].text and asked.digest == same.digest


def test_rows_stand_in_the_default_and_a_reply_ends_as_it_says(tokenizer_with):
    several = tokenizer_with(NAMED)
    assert chat.text_of(several) == TURN
    assert writing.end_tokens(GenerationConfig(), several) == [several.eos_token_id]
    assert tokenizers.check(several.name_or_path, len(several), "base_model", chat=True)
    said = tokenizers.words(several, Path("nowhere"), LlamaConfig(), chat=True)
    assert said[-1] == "asked in its chat template"


def test_templates_without_a_default_are_none(tokenizer_with):
    several = tokenizer_with({"rag": TURN, "tool_use": "tools"})
    with pytest.raises(StudyError, match="has no chat template; choose a base"):
        chat.Chat(several)
    assert Prompts(RUN, several, chat=True)[0].text.startswith("<|system|>: You are a helpful")
    assert writing.end_tokens(GenerationConfig(), several) == [several.eos_token_id]
