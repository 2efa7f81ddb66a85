"""Tables of replies with what they say: written for this, and by SmolLM2-135M-Instruct.

The file smollm2_replies.csv holds greedy replies of that model (Apache-2.0), each labelled by hand
before the rules read it. Replies that repeat a question of MedQA are left out.
"""

import csv
from pathlib import Path

import pytest

from sm70lib import benchmarks
from sm70lib.protocols import refusals, replies

HERE = Path(__file__).parent
LABELS = {"refuses": True, "complies": False, "": None}


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a table; `\\n` in a reply stands for a new line."""
    with open(HERE / name, newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [row | {"reply": row["reply"].replace("\\n", "\n")} for row in found]


WRITTEN = rows("replies.csv")
REFUSALS = rows("refusals.csv")
MODEL = rows("smollm2_replies.csv")


@pytest.mark.parametrize("row", WRITTEN, ids=lambda row: f"{row['why']}: {row['reply'][:40]!r}")
def test_what_a_reply_chooses(row):
    options = tuple(row["options"].split("|"))
    place = replies.choice(row["reply"], options)
    assert ("" if place is None else options[place]) == row["choice"]


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row['why']}: {row['reply'][:40]!r}")
def test_whether_a_reply_refuses(row):
    assert refusals.refuses(row["reply"]) is LABELS[row["label"]]


def test_the_tables_are_long_and_no_case_stands_twice():
    assert len(WRITTEN) >= 120
    assert len({(row["reply"], row["options"]) for row in WRITTEN}) == len(WRITTEN)
    assert len({row["reply"] for row in REFUSALS}) == len(REFUSALS) >= 40
    unread = sum(not row["choice"] for row in WRITTEN)
    assert 40 < unread < len(WRITTEN) / 2


def test_choices_of_a_real_model_are_read_as_a_person_reads_them(shared_data):
    asked = [row for row in MODEL if row["letters"]]
    items = {
        item.id: item
        for name in ("medqa_4", "pubmedqa")
        for item in benchmarks.read(name, shared_data, None, [])
    }
    wrong = []
    for row in asked:
        place = replies.choice(row["reply"], items[row["item_id"]].options)
        letter = "" if place is None else row["letters"][place]
        if letter != row["label"]:
            wrong.append((row["item_id"], row["label"], letter))
    chosen = [row for row in asked if row["label"]]
    misread = [case for case in wrong if case[2] and case[1]]
    assert len(asked) >= 30 and len(chosen) >= 20
    assert not misread, "no choice is taken for another one"
    assert len(wrong) <= 3, wrong


def test_refusals_of_a_real_model_are_read_as_a_person_reads_them():
    judged = [
        (LABELS[row["label"]], refusals.refuses(row["reply"]))
        for row in MODEL
        if not row["letters"]
    ]
    assert len(judged) == 60
    assert judged.count((True, True)) >= 4 and judged.count((True, False)) <= 1
    assert judged.count((False, False)) == 52 and judged.count((False, True)) == 0
