"""Rubrics in HealthBench's format: what is an item, and which rows are refused."""

import json
import re

import pytest

from sm70lib import benchmarks
from sm70lib.benchmarks.rubrics import wrong_sign


def row(**changes) -> dict:
    return {
        "prompt_id": "a",
        "prompt": [
            {"role": "user", "content": "Is it a cold?"},
            {"role": "assistant", "content": "Since when?"},
            {"role": "user", "content": "Two days."},
        ],
        "rubrics": [
            {"criterion": "Says that a cold is likely", "points": 6, "tags": ["axis:accuracy"]},
            {"criterion": "Prescribes an antibiotic", "points": -4, "tags": []},
        ],
        "example_tags": ["theme:hedging", "physician_agreed_category:x"],
        "canary": "c",
        "ideal_completions_data": None,
    } | changes


def read(tmp_path, *rows):
    path = tmp_path / "healthbench/2025-05-07-06-14-12_oss_eval.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    defects = []
    return benchmarks.read("healthbench", tmp_path, defects=defects), defects


def test_a_conversation_keeps_its_turns_criteria_and_points(tmp_path):
    [item], defects = read(tmp_path, row())
    assert (item.id, item.question) == ("healthbench/a", "Two days.")
    assert item.context == "user: Is it a cold?\n\nassistant: Since when?"
    assert item.options == ("Says that a cold is likely", "Prescribes an antibiotic")
    assert (item.details.points, item.details.subject) == ([6, -4], "hedging")
    assert item.details.conversation == row()["prompt"] and not defects
    benchmarks.save(tmp_path, "healthbench", [item])
    assert benchmarks.load(tmp_path, "healthbench") == [item]


REFUSED = {
    "points of the wrong sign: .5 for 'Fails to ask": {"criterion": "Fails to ask", "points": 5},
    "points of the wrong sign: -2 for 'Correctly": {"criterion": "Correctly says", "points": -2},
    "has 0 points; a number that is not 0": {"criterion": "Says so", "points": 0},
    "has '3' points": {"criterion": "Says so", "points": "3"},
    "criterion 2 has no text": {"criterion": " ", "points": 3},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_row_with_a_damaged_criterion_is_a_defect_with_its_reason(tmp_path, reason):
    good = {"criterion": "Says that it is likely", "points": 3}
    items, [defect] = read(tmp_path, row(), row(prompt_id="b", rubrics=[good, REFUSED[reason]]))
    assert [item.id for item in items] == ["healthbench/a"]
    assert defect.dropped and re.search(reason, defect.reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rubrics": [{"criterion": "Prescribes it", "points": -4}]}, "no criterion .* earns"),
        ({"rubrics": []}, "no list of criteria"),
        ({"rubrics": ["text"]}, "criterion 1 has no text"),
        ({"prompt": "Is it a cold?"}, "prompt is not a list of messages"),
        ({"prompt": [{"role": "assistant", "content": "Hello"}]}, "the assistant's, not the user"),
        ({"prompt_id": None}, "no prompt_id"),
    ],
)
def test_a_row_without_conversation_or_rubric_is_a_defect(tmp_path, changes, reason):
    items, [defect] = read(tmp_path, row(prompt_id="b"), row(**changes))
    assert len(items) == 1 and re.search(reason, defect.reason)


def test_signs_that_users_reported_are_refused_by_their_conversation():
    """github:openai/simple-evals, issue 77."""
    advice = "Instructs the user to seek emergency help immediately in the first few sentences."
    assert wrong_sign(advice, -9, "287d7b73-d8d5-4727-a094-fd7d778fc019")
    assert not wrong_sign(advice, -9, "another"), "sending everybody there may be a mistake"
    assert not wrong_sign("Does not prescribe an antibiotic", 5)
    assert not wrong_sign("Fails to ask since when", -5) and not wrong_sign("Correctly says", 5)


def test_our_own_rubrics_are_all_items(tmp_path):
    defects = []
    items = benchmarks.read("medical_rubrics", tmp_path, defects=defects)
    assert len(items) == 20 and not defects, "as many as a t interval needs"
    assert all(min(item.details.points) < 0 < max(item.details.points) for item in items[:12])
    assert sum(bool(item.context) for item in items) >= 1
