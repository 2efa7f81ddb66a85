"""Templates: exact text, what is cut, and Meadow's own layouts taken apart."""

import pytest

from sm70lib.corpus import templates
from sm70lib.sources import wordings
from sm70lib.study.params import StudyError

MEDALPACA = """Below is an instruction that describes a task, paired with an input that provides \
further context. Write a response that appropriately completes the request.

### Instruction:
Answer truthfully

### Input:
What is {x}?

### Response:
"""


def test_medalpaca_is_the_published_text_and_braces_in_a_field_stay():
    assert templates.render("medalpaca", "Answer truthfully", "What is {x}?") == MEDALPACA
    assert templates.response("medalpaca", "It is {output}.") == "It is {output}."


def test_both_headers_stay_when_a_field_is_empty():
    for instruction, input in (("Do it", ""), ("", "It")):
        text = templates.render("medalpaca", instruction, input)
        assert text.count("### Instruction:\n") == text.count("### Input:\n") == 1


def test_sm70_wraps_context_and_question_and_leaves_bos_to_encode():
    assert (
        templates.render("sm70", "Summarise", "An abstract")
        == "[INST] Context: An abstract. Question: Summarise.[/INST]\nAnswer:"
    )
    assert templates.response("sm70", "A title") == " A title"


def test_a_text_has_no_prompt():
    assert templates.render("medalpaca", "", "") == templates.render("sm70", "", "") == ""


def test_span_is_where_the_input_stands_also_when_the_same_text_stands_elsewhere():
    for template in templates.TEMPLATES:
        start, end = templates.span(template, "input: input", "input")
        text = templates.render(template, "input: input", "input")
        assert text[start:end] == "input"
        assert text[:start] + "XX" + text[end:] == templates.render(template, "input: input", "XX")


def test_digest_tells_templates_apart_and_an_unknown_one_is_named():
    digests = {templates.digest(name) for name in templates.TEMPLATES}
    assert len(digests) == len(templates.TEMPLATES) >= 2 and all(
        len(digest) == 64 for digest in digests
    )
    with pytest.raises(StudyError, match="there is no template 'vicuna'; choose from medalpaca, "):
        templates.render("vicuna", "a", "b")


LAYOUTS = {
    "Q:Which one? \nA:one;B:two; too;C:3;D:four": (
        "Which one",
        {"A": "one", "B": "two; too", "C": "3", "D": "four"},
    ),
    "Q:Which one?? \n{'A': 'it\\'s', 'B': \"b\"},": ("Which one?", {"A": "it's", "B": "b"}),
    "Q:Why?\nA 5-year-old? \nA:x;B:y": ("Why?\nA 5-year-old", {"A": "x", "B": "y"}),
    "Q:Broken? \n{'A': 'one', 'B'},": ("Q:Broken? \n{'A': 'one', 'B'},", {}),
    "Q:Odd? \n{'A', 'B'},": ("Q:Odd? \n{'A', 'B'},", {}),
    "What is a flashcard?": ("What is a flashcard?", {}),
    "": ("", {}),
}


def test_unwrap_finds_stem_and_options_in_both_meadow_layouts():
    assert {text: wordings.unwrap(text) for text in LAYOUTS} == LAYOUTS
    assert len(LAYOUTS) == 7
