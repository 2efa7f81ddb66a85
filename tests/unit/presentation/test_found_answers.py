"""What notebooks 05 and 06 say they found, held against tables small enough to read."""

import fnmatch

import pandas as pd
import pytest

from sm70lib.analysis import tables
from sm70lib.presentation import found_answers as found

SLICES = pd.DataFrame(
    {"model": ["base", "tuned", "tuned", "tuned"], "benchmark": ["medqa_4"] * 3 + ["usmle"]}
    | {"slice": ["kind", "kind", "kind", "patient_age"], "value": ["fact", "fact", "known", "60"]}
    | {"n": [80, 80, 1200, 9], "acc_pct": [10.0, 23.8, 47.5, None]}
)
FLIPS = pd.DataFrame(
    {"benchmark": ["medqa_4", "medqa_4", "usmle"], "n": [100, 80, 1200]}
    | {"gained": [56, 54, 1.5], "lost": [6, 1, 9]}
)
HABITS = pd.DataFrame(
    {"model": ["base", "tuned", "tuned"], "benchmark": ["usmle", "medqa_4", "usmle"]}
    | {"favourite": list("ABC"), "favourite_chosen_pct": [100.0, 40.0, 60.0]}
    | {"favourite_gold_pct": [25.0, 25.0, 55.0]}
)
RULES = pd.DataFrame(
    {"model": ["tuned"] * 3, "benchmark": ["medqa_4", "medqa_4", "usmle"]}
    | {"rule": ["long stem", "calculation", "lab values"]}
    | {"n": [38, 50, 5], "n_else": [262, 250, 300]}
    | {"acc_pct": [47.4, 90.0, None], "else_pct": [85.1, 80.0, 70.0]}
)
WAYS = pd.DataFrame(
    {"benchmark": ["medqa_4", "usmle"], "n": [200, 100]}
    | {"protocol_a": ["harness"] * 2, "protocol_b": ["med42", "meditron"]}
    | {"only the first": [20, 1], "only the second": [30, 20]}
)
ERRORS = pd.DataFrame(
    {"model": ["tuned", "tuned"], "benchmark": ["pubmedqa", "usmle"], "ece_pts": [2.7, 6.3]}
)
PAIRS = pd.DataFrame(
    {"model": ["base", "tuned"], "benchmark": ["medquad_pairs"] * 2, "n": [40, 40]}
    | {"acc_pct": [25.0, 100.0]}
)
LOSSES = pd.DataFrame(
    {"study": ["a", "a", "b"], "model": ["base", "tuned", "tuned"], "source": ["cdc"] * 3}
    | {"nats_per_token": [3.5, 3.25, 9.0]}
)
EFFECT = pd.DataFrame({"low_pts": [1.0, -2.0, -9.0, None], "high_pts": [3.0, 2.0, -1.0, None]})
READ = pd.DataFrame({"reading": ["tuned higher", "tuned higher", "base-nf4 higher"]})


@pytest.mark.parametrize(
    ("said", "words"),
    (
        (
            found.by_slice(SLICES, "tuned"),
            "Over 2 slices, tuned is right least often on kind fact of MedQA (23.8 % of 80) and "
            "most often on kind known of MedQA (47.5 % of 1,200).*",
        ),
        (found.by_slice(SLICES.tail(1), "tuned"), "No slice of the questions that tuned *"),
        (
            found.flips(FLIPS),
            "Of 1,380 answers, tuning gained 112 and lost 16; it lost most on USMLE (9 of 1,200).",
        ),
        (found.flips(FLIPS.head(2)), "Of 180 answers, tuning gained 110 and lost 7."),
        (found.flips(FLIPS.head(0)), "No question was answered both before and after tuning."),
        (
            found.habits(HABITS, "tuned"),
            "tuned leans most on a position in MedQA: it chooses B for 40.0 % of the questions, "
            "and B is right for 25.0 %.",
        ),
        (found.habits(HABITS, "merged"), "merged chose no options."),
        (
            found.by_rule(RULES, "tuned"),
            'tuned falls most under the rule "long stem" on MedQA: 47.4 % of 38 where it holds, '
            "85.1 % of 262 elsewhere.",
        ),
        (found.by_rule(RULES[1:2], "tuned"), "Under no rule is tuned right less often *"),
        (found.by_rule(RULES[2:], "tuned"), "No rule could be judged for tuned."),
        (
            found.two_ways(WAYS),
            "MedQA depends most on how it is asked: 25.0 % of 200 questions are right under only "
            "one of harness and med42.",
        ),
        (found.two_ways(WAYS.head(0)), "No question was asked in two ways."),
        (
            found.calibration(ERRORS, "tuned"),
            "* of tuned is 2.7 points on PubMedQA at best, and 6.3 points on USMLE at worst.",
        ),
        (found.calibration(ERRORS.tail(1), "tuned"), "* of tuned is 6.3 points on USMLE."),
        (found.calibration(ERRORS, "base"), "base has no confidence*"),
        (
            found.preferences(PAIRS, "tuned"),
            "tuned finds the better answer likelier in 100.0 % of 40 pairs from MedQuAD.",
        ),
        (
            found.compared(READ),
            "Declared comparisons: tuned higher (2) and base (NF4) higher (1).",
        ),
        (found.compared(READ.head(0)), "No comparison was declared."),
        (
            found.losses(LOSSES, "a"),
            "From base to tuned the loss changes, in nats per token: CDC -0.250.",
        ),
        (found.losses(LOSSES, "b"), "base and tuned did not both read these texts."),
        (
            found.leaked(EFFECT),
            "In 1 of 3 comparisons leaked questions gained more *, and in 1 they gained less*",
        ),
        (
            found.leaked(EFFECT.tail(1)),
            "Nothing can be said about what leaked questions are worth.",
        ),
    ),
)
def test_a_sentence_says_what_was_found(said, words):
    assert fnmatch.fnmatch(said, words), said


def test_the_sentence_stands_below_the_table():
    page = tables.shown(ERRORS, "Found <b>this</b>.").data
    assert page.endswith("<p>Found &lt;b&gt;this&lt;/b&gt;.</p>") and "USMLE" in page
    assert "<p>" not in tables.shown(ERRORS).data
