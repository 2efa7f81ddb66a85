"""Chat templates of models that think: which answers of a row they change, and what is trained."""

from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerFast

from sm70lib.corpus import examples
from sm70lib.corpus.audit import Audit
from sm70lib.corpus.chat import LAST_ALONE, Chat
from sm70lib.corpus.findings import Findings
from sm70lib.corpus.tokens import IGNORED
from sm70lib.sources import Row
from tests.unit.asking.test_trained import tokenizer_of
from tests.unit.corpus.test_chat import ALONE, ROW, parameters

TURN = "<|im_start|>{{ m.role }}\n"
# In the style of real ones, in our own wording
THINKING = {
    # An empty thought if it is told not to think, and before a last answer without one
    "qwen3": (
        "{% for m in messages %}{% set parts = m.content.split('</think>') %}"
        f"{TURN}{{% if m.role == 'assistant' and loop.last %}}<think>\n"
        "{{ (parts[0].split('<think>')[-1] if parts | length > 1 else '').strip() }}"
        "\n</think>\n\n{% endif %}{{ parts[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}"
    ),
    # A thought that the prompt begins, and that no answer has
    "r1": (
        "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>"
        "{{ m.content.split('</think>')[-1] }}"
        "{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
    ),
    # An end of its own behind the last answer
    "phi-3": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}</s>{% endif %}"
    ),
    # Channels, and an end of its own behind the last answer
    "gpt-oss": (
        "{% for m in messages %}<|start|>{{ m.role }}"
        "{% if m.role == 'assistant' %}<|channel|>final<|message|>{% else %}<|message|>{% endif %}"
        "{{ m.content }}"
        "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    ),
    # Two tokens at the end of every answer
    "command-r": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
        "{% if m.role == 'assistant' %}<|return|>{% endif %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
}
# The thought that the prompt begins stands in a last answer too
THINKING["qwen3-2507"] = THINKING["qwen3"].replace(
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
    "<think>\n",
)
# The prompt begins no thought
THINKING["r1-0528"] = THINKING["r1"].replace("<|assistant|><think>\n", "<|assistant|>")
MARKS = "<|im_start|> <|im_end|> <|system|> <|user|> <|assistant|> <|end|> <|return|>".split()
CHANNELS = "<|start|> <|channel|> <|message|>".split()
THOUGHT = "<think>Long reasoning</think> It is a flu."


def tokenizer(style: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with the chat template of a style."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of("byte-level", False).backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[*MARKS, *CHANNELS],
    )
    made.chat_template = THINKING[style]
    return made


def trained(style: str, row: Row, loss: str = "response") -> tuple[str, str] | str:
    """The text of a row's labels and its note, or why there is none."""
    made = tokenizer(style)
    ((encoded,)) = Chat(made).encode([row], 10**6, "drop", loss)
    if isinstance(encoded, str):
        return encoded
    return made.decode([label for label in encoded.labels if label != IGNORED]), encoded.note


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("qwen3", "Fever.<|im_end|><think>\n\n</think>\n\nPaleness, é.<|im_end|>"),
        ("qwen3-2507", "Fever.<|im_end|>\n</think>\n\nPaleness, é.<|im_end|>"),
        ("r1-0528", "Fever.</s>Paleness, é.</s>"),
        ("phi-3", "Fever.<|end|>Paleness, é.<|end|>\n</s>"),
        (
            "gpt-oss",
            "<|channel|>final<|message|>Fever.<|end|>"
            "<|channel|>final<|message|>Paleness, é.<|return|>",
        ),
        ("command-r", "Fever.<|return|><|end|>Paleness, é.<|return|><|end|>"),
    ],
)
def test_every_answer_is_trained_where_the_last_is_written_otherwise(style, said):
    assert trained(style, ROW) == (said, "")
    made = tokenizer(style)
    ((encoded,)) = Chat(made).encode([ROW], 10**6, "drop", "response")
    messages = [{"role": role, "content": text} for role, text in ROW.turns]
    whole = [*messages, {"role": "assistant", "content": ROW.output}]
    assert encoded.input_ids == made.apply_chat_template(whole, return_dict=False)


@pytest.mark.parametrize("style", ["qwen3", "gpt-oss", "phi-3"])
def test_an_answer_that_stands_in_marks_and_other_turns_is_found_at_its_place(style):
    turns = (
        ("user", "s"),
        ("assistant", "s"),
        ("user", "final"),
        ("assistant", "a"),
        ("user", "s"),
    )
    said, note = trained(style, replace(ROW, turns=turns, output="s"))
    ends = [part.rpartition("\n")[2].rpartition(">")[2] for part in said.split("<|")]
    assert note == "" and [end for end in ends if end in ("s", "a")] == ["s", "a", "s"]


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("r1-0528", "the chat template changes an answer"),
        ("qwen3", ("<think>\nLong reasoning\n</think>\n\n It is a flu.<|im_end|>", "")),
        ("qwen3-2507", ("Long reasoning\n</think>\n\n It is a flu.<|im_end|>", "")),
        ("phi-3", (f"{THOUGHT}<|end|>\n</s>", "")),
    ],
)
def test_a_row_whose_answer_loses_its_reasoning_is_left_out(style, said):
    assert trained(style, replace(ALONE, output=THOUGHT)) == said
    if isinstance(said, str):
        asked = replace(ALONE, input="Is this right: It is a flu.", output=THOUGHT)
        assert trained(style, asked) == said, "the question does not count"


def test_where_an_earlier_answer_is_changed_the_last_is_trained_alone_and_that_is_said():
    turns = (*ROW.turns[:2], ("assistant", THOUGHT), ROW.turns[-1])
    for style, last in (
        ("qwen3", "<think>\n\n</think>\n\nPaleness, é.<|im_end|>"),
        ("r1-0528", "Paleness, é.</s>"),
    ):
        row = replace(ROW, turns=turns)
        assert trained(style, row) == (last, LAST_ALONE)
        whole, note = trained(style, row, "all")
        assert last in whole and note == "", "nothing is lost there"
        assert trained(style, row, "last") == (last, ""), "nor here"


def test_both_are_found_by_the_audit_and_only_what_is_left_out_is_counted():
    p, found = parameters(), Findings(rows=3)
    changed = replace(ROW, turns=(*ROW.turns[:2], ("assistant", THOUGHT), ROW.turns[-1]))
    rows = [replace(ALONE, output=THOUGHT), replace(changed, row=2), replace(ROW, row=3)]
    made = tokenizer("r1-0528")
    ((_, lengths),) = examples.encoded(
        rows, lambda batch: examples._examples(batch, p, made), examples.FEATURES, found, False
    )
    assert len(lengths) == 2
    noted = [(one.row, one.check, one.reason, one.dropped) for one in found.defects]
    assert noted == [
        (1, "length", "the chat template changes an answer", True),
        (2, "template", LAST_ALONE, False),
    ]
    funnel = Audit({}, {"mine": found}).funnel().loc["mine"]
    assert (funnel["rows"], funnel["length"], funnel["kept"]) == (3, 1, 2)


def test_a_pair_with_earlier_turns_is_trained_under_such_a_template_too():
    for style in ("qwen3", "phi-3", "gpt-oss"):
        made = tokenizer(style)
        ((pair,),) = examples._preferences([replace(ROW, rejected="Redness.")], parameters(), made)
        better, worse = (made.decode(ids) for ids in (pair.chosen_ids, pair.rejected_ids))
        assert better.replace("Paleness, é.", "Redness.") == worse
    thought = replace(ROW, rejected=THOUGHT)
    (reason,) = examples._preferences([thought], parameters(), tokenizer("r1-0528"))
    assert reason == "the chat template changes an answer"
