"""Preference accuracy and margins on pairs worked out by hand, beside the shorter answer."""

import pandas as pd
import pytest

from sm70lib.analysis import frames, slices
from sm70lib.benchmarks import Item
from sm70lib.measures import preferences

SHORT, LONG, ALIKE = ("No.", "Because it rains."), ("Because it rains.", "No."), ("Yes.", "Not.")


def answer(n: int, options: tuple[str, str], scores: list[float], model: str = "tuned") -> dict:
    item = Item(str(n), str(n), "public_pairs", "Why?", "", options, 0)
    right = scores[0] > scores[1]
    run = {"study": "s", "model": model, "benchmark": "public_pairs", "protocol": "preference"}
    return run | {"shots": 0, "item": item, "loglikelihoods": scores, "gold": 0, "correct": right}


def test_accuracy_margin_and_the_rule_of_the_shorter_answer():
    rows = [
        answer(0, SHORT, [-1.0, -2.0]),
        answer(1, LONG, [-3.0, -1.0]),
        answer(2, ALIKE, [-1.0, -2.0]),
        answer(3, LONG, [-1.0, -3.0]),
    ]
    (row,) = preferences.table(pd.DataFrame(rows)).to_dict("records")
    assert (row["n"], row["acc_pct"], row["shorter_pct"]) == (4, 75.0, 37.5)
    assert (row["n_alike"], row["acc_alike_pct"], row["shorter_alike_pct"]) == (1, 100.0, 50.0)
    assert row["margin_nats"] == pytest.approx((1 - 2 + 1 + 2) / 4)


def test_a_study_without_pairs_has_no_table():
    rows = pd.DataFrame([answer(0, SHORT, [-1.0, -2.0])]).assign(benchmark="medqa_4")
    assert preferences.table(rows).empty


def test_replies_of_all_models_stand_side_by_side():
    rows = []
    for model, reply in (("tuned-1-sft", "I cannot help."), ("tuned", "It is\n treated.")):
        for n in range(4):
            row = answer(n, SHORT, [0.0, 1.0], model) | {"parsed": [f"{reply} {n}"]}
            row["item"] = Item(str(n), str(n), "xstest_safe", f"Why {n}?", "", ("a", "b"), 0)
            rows.append(row | {"benchmark": "xstest_safe"})
    shown = slices.side_by_side(pd.DataFrame(rows), 2, seed=0)
    assert len(shown) == 2
    for row in shown.to_dict("records"):
        n = row["request"][4]
        assert row["tuned-1-sft"] == f"I cannot help. {n}" and row["tuned"] == f"It is treated. {n}"


def test_without_a_base_tuned_is_compared_with_the_first_stage():
    models = ["tuned", "tuned-1-sft", "tuned-2-dpo"]
    assert frames.before(pd.DataFrame({"model": models})) == "tuned-1-sft"
    assert frames.before(pd.DataFrame({"model": [*models, "base"]})) == "base"
