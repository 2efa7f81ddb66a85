"""Tables of replies with what they say: written for this, and a real model's (tests/replies.py)."""

import csv
from pathlib import Path

import pytest

from sm70lib import benchmarks
from sm70lib.protocols import refusals, replies
from tests import replies as real

HERE = Path(__file__).parent
LABELS = {"refuses": True, "complies": False, "": None}


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a table; `\\n` in a reply stands for a new line."""
    with open(HERE / name, newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [row | {"reply": row["reply"].replace("\\n", "\n")} for row in found]


WRITTEN = rows("replies.csv")
REFUSALS = rows("refusals.csv")


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


def test_choices_of_a_real_model_are_read_as_a_reader_reads_them(shared_data):
    options = {
        item.id: item.options
        for name in ("medqa_4", "pubmedqa")
        for item in benchmarks.read(name, shared_data, None, [])
    }
    asked = real.exams(options)
    wrong = asked[asked["label"] != asked["rule"]]
    misread = wrong[(wrong["label"] != "") & (wrong["rule"] != "")]
    assert len(asked) >= 40 and (asked["label"] != "").sum() >= 30
    assert misread.empty, "no choice is taken for another one"
    assert len(wrong) <= 4, wrong[["item_id", "label", "rule"]]


def test_refusals_of_a_real_model_are_read_as_a_reader_reads_them():
    """The least that the judging rule does on all replies, and on those it was not written for."""
    table = real.table_of_requests()
    assert table.at["all", "n"] >= 200 and table.at["part check", "n"] >= 100
    for part in ("all", "all, by the second reader", "part check"):
        assert table.at[part, "refusals"] >= 30
        assert table.at[part, "sensitivity"] > 0.95 and table.at[part, "specificity"] > 0.95
        assert table.at[part, "kappa"] > 0.7 and table.at[part, "agree"] > 0.85


def test_two_readers_of_the_replies_agree():
    both = real.readers()
    assert both["n"] >= 200 and both["kappa"] > 0.8 and both["agree"] > 0.9


def test_no_reply_of_the_model_stands_twice():
    table = real.rows()
    assert not table.duplicated(["item_id", "model"]).any()
    assert set(table["part"]) == {"seen", "check"}
    assert set(table["label"]) <= {*"ABCD", "complies", "refuses", ""}
    assert set(table["second"]) == {"complies", "refuses", ""}
