"""Tokens and labels: one BOS, a trained EOS, the mask and what is cut."""

import json

import pytest
from transformers import PreTrainedTokenizerFast

from sm70lib.corpus import templates, tokens
from sm70lib.corpus.tokens import IGNORED, Encoded
from sm70lib.study.params import StudyError

BOS, EOS = 0, 1
INPUT = "Héllo wörld, what is the drug of choice for velorum? " * 8


def encode(prompt, response, tokenizer, max_length, overlong="cut", loss="response", middle=(0, 0)):
    """One row alone."""
    return tokens.encode_batch([(prompt, response, middle)], tokenizer, max_length, overlong, loss)[
        0
    ]


def example(template: str = "medalpaca", input: str = INPUT) -> dict:
    return {
        "prompt": templates.render(template, "Answer", input),
        "middle": templates.span(template, "Answer", input),
        "response": templates.response(template, "It is zorvex."),
    }


def test_the_tokenizer_of_these_tests_adds_a_bos(tokenizer):
    assert tokenizer("a").input_ids[0] == BOS


@pytest.mark.parametrize("template", templates.TEMPLATES)
def test_one_bos_prompt_response_and_a_trained_eos(tokenizer, template):
    row = encode(**example(template), tokenizer=tokenizer, max_length=4096)
    assert row.input_ids[0] == BOS and row.input_ids.count(BOS) == 1 and row.input_ids[-1] == EOS
    targets = [label for label in row.labels if label != IGNORED]
    assert (
        row.labels == [IGNORED] * (len(row.labels) - len(targets)) + row.input_ids[-len(targets) :]
    )
    assert tokenizer.decode(targets) == example(template)["response"] + "</s>" and row.cut == 0
    assert tokenizer.decode(row.input_ids[1 : -len(targets)]) == example(template)["prompt"]


def test_loss_on_all_and_texts_train_everything_but_bos(tokenizer):
    row = encode(**example(), tokenizer=tokenizer, max_length=4096, loss="all")
    assert row.labels == [IGNORED, *row.input_ids[1:]]
    text = encode("", "Running text.", tokenizer, 64)
    assert text.labels == [IGNORED, *text.input_ids[1:]]
    assert tokenizer.decode(text.input_ids) == "<s>Running text.</s>"


def test_special_tokens_written_in_the_data_stay_text(tokenizer):
    row = encode("a <s> b </s>", "c </s> d <s>", tokenizer, 64)
    assert row.input_ids.count(BOS) == row.input_ids.count(EOS) == 1
    assert tokenizer.decode(row.input_ids) == "<s>a <s> b </s>c </s> d <s></s>"


def test_cutting_takes_the_end_of_the_input_and_nothing_else(tokenizer):
    whole = encode(**example(), tokenizer=tokenizer, max_length=4096)
    targets, checked = [label for label in whole.labels if label != IGNORED], 0
    for max_length in range(len(whole.input_ids) - 1, 0, -3):
        row = encode(**example(), tokenizer=tokenizer, max_length=max_length)
        if isinstance(row, str):
            assert row == "prompt too long for data_max_length" or max_length < 12
            continue
        text = tokenizer.decode(row.input_ids[1:-1])
        before, after = example()["prompt"].split(INPUT)
        assert text.startswith(before) and text.endswith(after + "It is zorvex.")
        assert INPUT.startswith(text.removeprefix(before).removesuffix(after + "It is zorvex."))
        assert max_length - 3 <= len(row.input_ids) <= max_length
        assert row.cut + len(row.input_ids) == len(whole.input_ids)
        assert [label for label in row.labels if label != IGNORED] == targets
        checked += 1
    assert checked > 30


def test_rows_that_cannot_be_used_give_their_reason(tokenizer):
    long = example() | {"response": "no " * 300}
    long_prompt, long_response = (
        "prompt too long for data_max_length",
        "response longer than data_max_length",
    )
    assert encode(**example(), tokenizer=tokenizer, max_length=99, overlong="drop") == long_prompt
    assert encode(**example(), tokenizer=tokenizer, max_length=30) == long_prompt
    assert encode(**long, tokenizer=tokenizer, max_length=99) == long_response
    assert encode("", "text " * 300, tokenizer, 99) == long_response
    assert encode("a", "", tokenizer, 99) == "response without a token"


def test_a_batch_gives_what_single_rows_give(tokenizer):
    texts = [
        (
            templates.render("sm70", "Do", INPUT[:n]),
            " yes" * n,
            templates.span("sm70", "Do", INPUT[:n]),
        )
        for n in range(0, 120, 10)
    ]
    how = {"max_length": 70, "overlong": "cut", "loss": "response"}
    batch = tokens.encode_batch(texts, tokenizer, **how)
    assert batch == [encode(*text[:2], tokenizer, middle=text[2], **how) for text in texts]
    assert len(batch) == 12 and {type(row) for row in batch} == {str, Encoded}


@pytest.mark.parametrize("loss", ["response", "all"])
def test_a_tokenizer_without_bos_trains_and_asks_without_one(tokenizer, loss):
    """As Qwen's: the same row without BOS, and nothing could predict its first token."""
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    with_bos = encode("a question", "its answer", tokenizer, 99, loss=loss)
    without = encode("a question", "its answer", bare, 99, loss=loss)
    assert with_bos.input_ids[0] == tokenizer.bos_token_id
    assert without.input_ids == with_bos.input_ids[1:]
    assert without.labels == [IGNORED, *with_bos.labels[2:]]
    [asked] = tokens.prompt_ids(["a question"], bare)
    assert asked == without.input_ids[: len(asked)]


def test_running_text_without_bos_is_trained_on_all_but_its_first_token(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    row = encode("", "running text", bare, 99)
    assert row.labels == [IGNORED, *row.input_ids[1:]] and len(row.labels) > 2


def test_a_tokenizer_without_eos_is_refused(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>")
    with pytest.raises(StudyError, match="lacks an EOS token; choose a base that has one"):
        encode("a", "b", bare, 99)


def test_show_puts_each_token_beside_its_label(tokenizer):
    row = encode("ask", "say", tokenizer, 64)
    table = tokens.show(row.input_ids, row.labels, tokenizer)
    assert "".join(table["text"]) == "<s>asksay</s>" and "".join(table["label"]) == "say</s>"
    assert json.loads(table.to_json())["token"]["0"] == BOS and len(table) == len(row.input_ids)


def test_texts_are_encoded_as_the_tokenizer_itself_encodes_them(tokenizer):
    """Whatever the tokenizer was asked before; a mark that a text spells out stays text."""
    texts = ["Ask about </s> and <s>.", "", " ", "Fever, 38.5 °C: naïve", "x" * 500]
    tokenizer(texts, truncation=True, max_length=8)
    plain = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    tokenizer(texts, truncation=True, max_length=8)
    assert tokens.response_ids(texts, tokenizer) == plain and len(plain[4]) > 8
    whole = tokens.documents(texts, tokenizer)
    assert whole[1] == tokens.EMPTY
    assert whole[0] == [tokenizer.bos_token_id, *plain[0], tokenizer.eos_token_id]
    assert [piece.input_ids for piece in tokens.pieces(whole[0], 5)][0] == whole[0][:5]
