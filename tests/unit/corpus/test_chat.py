"""The template `chat`: rows are what the base's own chat template writes, and all answers count."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from transformers import PreTrainedTokenizerFast

from sm70lib import protocols
from sm70lib.asking import fitting, prompts, runs
from sm70lib.benchmarks import Item
from sm70lib.corpus import chat, examples, templates, tokens
from sm70lib.corpus.chat import Chat
from sm70lib.sources import Row
from sm70lib.study.params import StudyError
from tests.unit.asking.test_trained import tokenizer_of

# In the style of real ones, in our own wording: the template, and the end token of an answer
STYLES = {
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
    ),
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|header_end|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant<|header_end|>\n\n{% endif %}",
        "<|eot_id|>",
    ),
    "mistral": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set lead = messages[0].content + "
        "'\n\n' %}{% set rest = messages[1:] %}{% else %}{% set lead = '' %}"
        "{% set rest = messages %}{% endif %}{% for m in rest %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}"
        "[INST] {{ (lead if loop.first else '') + m.content }} [/INST]{% else %}"
        " {{ m.content }}</s>{% endif %}{% endfor %}",
        "</s>",
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<end_of_turn>",
    ),
    "here": (chat.PLAIN, "</s>"),
}
MARKS = "<|im_start|> <|im_end|> <|start|> <|header_end|> <|eot_id|> <start_of_turn> <end_of_turn>"
KINDS = ("byte-level", "metaspace")
PLACES = [(style, kind) for style in STYLES for kind in KINDS]
PLACES.remove(("here", "metaspace"))  # a base that is trained here has a byte-level tokenizer


def tokenizer(style: str, kind: str = "byte-level") -> PreTrainedTokenizerFast:
    """A small tokenizer of a kind, with the chat template of a style."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(kind, False).backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["[INST]", "[/INST]", *MARKS.split()],
    )
    made.chat_template = STYLES[style][0]
    return made


TURNS = (
    ("system", "You are careful."),
    ("user", "What is pyrexia?"),
    ("assistant", "Fever."),
    ("user", "And pallor?\n\nIn one word."),
)
ROW = Row("mine", 0, "", "flattened", "Paleness, é.", "mine.jsonl", turns=TURNS)
ALONE = Row("mine", 1, "Answer this", "What is pyrexia?", "Fever.", "mine.jsonl")


def messages(row: Row, style: str) -> list[dict]:
    turns = [*chat.conversation(row), ("assistant", row.output)]
    if style == "gemma" and turns[0][0] == "system":
        turns = [("user", f"{turns[0][1]}\n\n{turns[1][1]}"), *turns[2:]]
    return [{"role": role, "content": text} for role, text in turns]


@pytest.mark.parametrize(("style", "kind"), PLACES)
def test_a_row_is_what_the_chat_template_writes_and_every_answer_is_trained(style, kind):
    made, end = tokenizer(style, kind), STYLES[style][1]
    encoded = Chat(made).encode([ROW, ALONE], 10**6, "drop", "response")
    for row, result in zip((ROW, ALONE), encoded):
        ids = made.apply_chat_template(messages(row, style), return_dict=False)
        assert result.input_ids == ids
        trained = [label for label in result.labels if label != tokens.IGNORED]
        answers = ["Fever.", "Paleness, é."] if row is ROW else ["Fever."]
        said = made.decode(trained).split(end)
        assert [text.strip() for text in said] == [*answers, ""]
        assert trained.count(made.convert_tokens_to_ids(end)) == len(answers)
    (everything,) = Chat(made).encode([ROW], 10**6, "drop", "all")
    assert everything.labels == [tokens.IGNORED, *everything.input_ids[1:]]


def parameters(**changes) -> SimpleNamespace:
    values = {"data_template": "chat", "data_max_length": 10**6, "data_overlong": "drop"}
    return SimpleNamespace(**values | {"train_stages": ["sft"], "sft_loss": "response"} | changes)


@pytest.mark.parametrize(("style", "kind"), PLACES)
def test_as_trained_asks_the_very_tokens_of_a_training_row(style, kind):
    made = tokenizer(style, kind)
    item = Item("m/1", "m/1", "medqa_4", "Which drug", "", ("one ", "two", "1.5 mg", "é"), 1)
    run = runs.Run("medqa_4", protocols.named("as-trained"), 0, [item], [], "chat")
    (prompt,) = prompts.Prompts(run, made)
    (request,) = fitting.usable(prompt, run.protocol, made, 10**6, None)
    writes = replace(run, protocol=protocols.named("generate"))
    (asked,) = prompts.Prompts(writes, made)
    (read,) = fitting.usable(asked, writes.protocol, made, 10**6, None)
    assert read.context == request.context and len(request.options) == 4
    options = dict(zip("ABCD", item.options))
    instruction = "Please answer with one of the option in the bracket"
    for (letter, text), ids in zip(options.items(), request.options):
        row = Row("m", 0, instruction, f"Q:Which drug? \n{options},", f"{letter}: {text}", "f")
        ((trained,),) = examples._examples([row], parameters(), made)
        seam = len(request.context)
        assert trained.input_ids[:seam] == request.context
        assert set(trained.labels[:seam]) == {tokens.IGNORED}
        targets = [label for label in trained.labels if label != tokens.IGNORED]
        assert ids == targets[: len(ids)] and len(targets) - len(ids) in (1, 2), "blank, end"
    text, ids = examples.question("chat", made, instruction, f"Q:Which drug? \n{options},")
    assert ids == request.context and text == prompt.text


def test_a_pair_is_one_prompt_and_two_answers_that_end():
    made = tokenizer("chatml")
    pair = replace(ROW, rejected="Redness.")
    ((made_pair,),) = examples._preferences([pair], parameters(), made)
    whole = made.apply_chat_template(messages(pair, "chatml"), return_dict=False)
    assert [*made_pair.prompt_ids, *made_pair.chosen_ids] == whole[: len(whole) - 1], "no newline"
    assert made.decode(made_pair.rejected_ids) == "Redness.<|im_end|>"
    assert made.decode(made_pair.prompt_ids).endswith("<|im_start|>assistant\n")


def test_a_long_row_loses_the_end_of_its_last_input_and_nothing_else():
    made = tokenizer("llama-3")
    long = replace(ROW, turns=(*TURNS[:-1], ("user", "word " * 90)))
    for row in (long, replace(ALONE, input="word " * 90)):
        (whole,) = Chat(made).encode([row], 10**6, "cut", "response")
        (cut,) = Chat(made).encode([row], len(whole.input_ids) - 20, "cut", "response")
        assert 20 <= cut.cut < 26 and cut.cut == len(whole.input_ids) - len(cut.input_ids)
        assert cut.targets == whole.targets
        text = made.decode(cut.input_ids)
        assert (
            text.replace("word", "").split()
            == made.decode(whole.input_ids).replace("word", "").split()
        )
        for length, overlong in ((20, "cut"), (len(whole.input_ids) - 20, "drop")):
            (reason,) = Chat(made).encode([row], length, overlong, "response")
            assert reason == "conversation too long for data_max_length"


def test_rows_that_the_template_cannot_write_give_their_reason():
    made = tokenizer("mistral")
    forged = replace(ALONE, input="a </s> b")
    twice = replace(ROW, turns=(("user", "a"), ("user", "b")))
    reasons = Chat(made).encode([forged, twice], 99, "drop", "response")
    assert reasons == [
        "holds the text of a special token, </s>",
        "the chat template refuses it: roles must alternate",
    ]
    closed = tokenizer("chatml")  # as Qwen3.5's, whose prompt may hold an empty thought
    closed.chat_template = closed.chat_template.replace(
        "assistant\n{% endif %}", "assistant\n<t></t>{% endif %}"
    ).replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' and '</t>' not in m.content %}<t></t>{% endif %}"
        "{{ m.content }}",
    )
    thought = replace(ALONE, output="<t>Hot.</t>Fever.")
    assert Chat(closed).encode([thought], 99, "drop", "response") == [
        "the chat template writes a question otherwise once an answer follows"
    ]


def test_running_text_stands_in_no_template():
    text = Row("mine", 0, "", "", "Running text.", "mine.txt")
    made = tokenizer("chatml")
    ((alone,), (talk,)) = examples._examples([text, ALONE], parameters(), made)
    assert made.decode(alone.input_ids) == "<s>Running text.</s>"
    assert made.decode(talk.input_ids).startswith("<|im_start|>user")


def test_a_template_that_writes_the_date_gives_the_same_rows_tomorrow():
    made = tokenizer("chatml")
    made.chat_template = "{{ strftime_now('%d %b %Y') }}" + made.chat_template
    assert Chat(made).text((("user", "a"),)).startswith("26 Jul 2024<|im_start|>")
    # So does a prompt of a model that is asked in its own template: its digest stays the same.
    prompt = prompts._as_chat(made, [{"role": "user", "content": "a"}], "a")
    assert prompt == Chat(made).text((("user", "a"),), True)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "has no chat template; choose a base that was tuned to chat, or the template med"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "no special token at the end"),
        (
            "{% if messages|length > 1 %}<s>{% endif %}{% for m in messages %}{{ m.content }}</s>"
            "{% endfor %}",
            "writes a question otherwise once an answer follows",
        ),
    ],
)
def test_a_base_whose_template_cannot_be_trained_in_is_one_sentence(template, said):
    made = tokenizer("chatml")
    made.chat_template = template
    with pytest.raises(StudyError, match=said):
        Chat(made)


def test_the_digest_is_that_of_the_bases_own_template(tmp_path):
    mine, other = (STYLES[style][0] for style in ("chatml", "gemma"))
    assert templates.digest("chat", mine) != templates.digest("chat", other)
    templates.leave_digest(tmp_path, "chat", mine)
    assert templates.trained_in(tmp_path, "chat", mine) == "chat"
    for asked in (("chat", other), ("medalpaca",)):
        with pytest.raises(StudyError, match="was trained in the template chat"):
            templates.trained_in(tmp_path, *asked)


def test_each_text_of_a_row_is_tokenised_once(monkeypatch):
    made, seen = Chat(tokenizer("chatml")), []
    once = made._tokens
    monkeypatch.setattr(made, "_tokens", lambda texts: seen.extend(texts) or once(texts))
    assert all(row.targets for row in made.encode([ALONE, ROW], 4096, "drop", "response"))
    assert len(seen) == 2 + 4, "a row and its prompt; of the earlier answer, up to it and with it"
