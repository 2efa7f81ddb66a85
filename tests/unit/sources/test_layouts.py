"""Records as other people write them: what becomes a row, what is left out, and why."""

import json

import pytest

from sm70lib import protocols, sources
from sm70lib.benchmarks import Item
from sm70lib.corpus import templates
from sm70lib.sources.exams import medmcqa_of, pubmedqa_of
from sm70lib.sources.layouts import pair_of, row_of
from sm70lib.sources.problems import shaped


def pair(given: str, better: str, worse: str, *turns: tuple[str, str]) -> dict:
    row = {"instruction": "", "input": given, "rejected": worse, "output": better}
    return row | {"turns": turns} if turns else row


def turn(role: str, text: str) -> dict:
    return {"role": role, "content": text}


ASKED, GOOD, BAD = turn("user", "Where is the cornea?"), "In the eye.", "In the ear."
ENDS = {"chosen": GOOD, "rejected": BAD}
TALKS = {
    "chosen": [ASKED, turn("assistant", GOOD)],
    "rejected": [ASKED, turn("assistant", BAD)],
}
BRIEF = (("system", "Be brief."), ("user", "Where is the cornea?"))
THEN = (("user", "Hello"), ("assistant", "Good day."), ("user", "And then?"))
PLAIN = pair("Where is the cornea?", GOOD, BAD)
PAIRS = [
    ({"prompt": "Where is the cornea?"} | ENDS, PLAIN),
    ({"question": "Where is the cornea?"} | ENDS, PLAIN),
    ({"instruction": "Where is the cornea?", "input": ""} | ENDS, PLAIN),
    ({"prompt": [ASKED], "chosen": TALKS["chosen"][1:], "rejected": TALKS["rejected"][1:]}, PLAIN),
    (TALKS, PLAIN),
    (TALKS | {"score_chosen": 9, "score_rejected": 2.5}, PLAIN),
    (
        {
            "chosen": f"\n\nHuman: Where is the cornea?\n\nAssistant: {GOOD}",
            "rejected": f"\n\nHuman: Where is the cornea?\n\nAssistant: {BAD}",
        },
        PLAIN,
    ),
    (
        {"system": "Be brief.", "question": "Where is the cornea?"} | ENDS,
        pair("system: Be brief.\n\nuser: Where is the cornea?", GOOD, BAD, *BRIEF),
    ),
    (
        {"instruction": "And then?", "history": [["Hello", "Good day."]]} | ENDS,
        pair("user: Hello\n\nassistant: Good day.\n\nuser: And then?", GOOD, BAD, *THEN),
    ),
    (
        {
            "conversations": [{"from": "human", "value": "Where is the cornea?"}],
            "system": "Be brief.",
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
        },
        pair("system: Be brief.\n\nuser: Where is the cornea?", GOOD, BAD, *BRIEF),
    ),
    (
        {"prompt": "x"} | ENDS | {"score_chosen": 1, "score_rejected": 8.5},
        "the chosen answer has the lower score (1 against 8.5)",
    ),
    ({"prompt": "x"} | ENDS | {"score_chosen": 1, "score_rejected": 1}, "a tie: both answers have"),
    ({"prompt": "x", "chosen": GOOD, "rejected": GOOD}, "a tie: both answers are the same"),
    ({"prompt": "", "chosen": GOOD, "rejected": BAD}, "no record of a known layout"),
]


@pytest.mark.parametrize(("record", "wanted"), PAIRS, ids=range(len(PAIRS)))
def test_pairs_are_read_in_the_layouts_that_public_sets_have(record, wanted):
    found = shaped(pair_of, record)
    if isinstance(wanted, str):
        assert isinstance(found, str) and found.startswith(wanted)
    else:
        assert found == wanted


def test_two_talks_that_part_early_are_no_pair():
    other = [turn("user", "Where is the retina?"), turn("assistant", BAD)]
    with pytest.raises(ValueError, match="part before their last turn"):
        pair_of({"chosen": TALKS["chosen"], "rejected": other})


@pytest.mark.parametrize("record", [{}, {"input": None}, {"input": ""}])
def test_an_instruction_needs_no_input(record):
    row = row_of({"instruction": "Name one bone.", "output": "The femur."} | record)
    assert row == {"instruction": "Name one bone.", "output": "The femur.", "input": ""}


@pytest.mark.parametrize("more", [{"system": "Be brief."}, {"history": [["Hello", "Good day."]]}])
def test_an_instruction_with_more_around_it_is_left_out_with_a_reason(more):
    said = row_of({"instruction": "And then?", "input": "", "output": "Rest."} | more)
    assert isinstance(said, str) and said.startswith("a system line or earlier turns")


def test_hidden_files_and_folders_are_no_data(tmp_path):
    folder = tmp_path / "preference_pairs/mine"
    record = {"prompt": "Where is the cornea?"} | ENDS
    for name in ("p.json", ".ipynb_checkpoints/p-checkpoint.json", "._p.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps([record]))
    rows = list(sources.read("preference_pairs", tmp_path, []))
    assert [row.file for row in rows] == ["preference_pairs/mine/p.json"]


QUESTION = {"question": "Which?", "opa": "one", "opb": "two", "opc": "it's three", "opd": "four"}
TEXTS = {"contexts": ["We tried.", "It did."], "labels": ["METHODS", "RESULTS"], "meshes": []}


@pytest.mark.parametrize(
    ("shape", "record", "wanted"),
    [
        (
            medmcqa_of,
            QUESTION | {"cop": 2, "exp": None, "choice_type": "single"},
            (
                "Please answer with one of the option in the bracket",
                "Q:Which?? \n{'A': 'one', 'B': 'two', 'C': \"it's three\", 'D': 'four'},",
                "C: it's three",
            ),
        ),
        (medmcqa_of, QUESTION | {"cop": -1}, "cop is -1, and the hub's table counts"),
        (medmcqa_of, QUESTION | {"cop": 4}, "cop is 4, and the hub's table counts"),
        (medmcqa_of, QUESTION | {"cop": True}, "cop is True, and the hub's table counts"),
        (medmcqa_of, QUESTION | {"cop": 0, "opc": None}, "no text under opc"),
        (
            pubmedqa_of,
            {"question": "Does it?", "context": TEXTS, "final_decision": "no"},
            ("Answer this question with yes, no or maybe", "We tried.\nIt did.\nDoes it?", "no"),
        ),
        (
            pubmedqa_of,
            {"question": "Does it?", "context": TEXTS, "final_decision": ""},
            "final_decision is ''",
        ),
        (
            pubmedqa_of,
            {"question": "Does it?", "context": "We tried.", "final_decision": "no"},
            "no list of texts",
        ),
    ],
)
def test_questions_of_training_sets_are_asked_as_meadow_asks_and_as_trained_asks(
    shape, record, wanted
):
    found = shaped(shape, record)
    if isinstance(wanted, str):
        assert isinstance(found, str) and found.startswith(wanted)
        return
    assert tuple(found[name] for name in ("instruction", "input", "output")) == wanted
    options = ("one", "two", "it's three", "four")
    item = Item("m", "m", "medqa_4", "Which?", "", options, 2)
    if shape is pubmedqa_of:
        verdicts = ("yes", "no", "maybe")
        item = Item("7", "7", "pubmedqa", "Does it?", "We tried.\nIt did.", verdicts, 1)
    trained = protocols.named("as-trained")
    instruction, asked, answer = wanted
    prompt = templates.render("meditron", instruction, asked)
    assert trained.prompt(item, template="meditron") == prompt
    assert trained.continuations(item, template="meditron")[item.answer] == answer
