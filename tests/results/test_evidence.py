"""The evidence counts what it says it counts, on answers whose numbers are known beforehand."""

import pandas as pd
import pytest

from tests.results import evidence, evidence_med42, evidence_meditron

GOLD = [0, 1, 2, 0, 1, 2]  # three reports, each with its exchange
PAIRS = ["a", "a", "b", "b", "c", "c"]


def answers(choices: list[int], scores: list[list[float]] | None = None) -> pd.DataFrame:
    made = scores or [[float(choice == n) for n in range(3)] for choice in choices]
    table = pd.DataFrame({"choice": choices, "gold": GOLD, "pair": PAIRS, "loglikelihoods": made})
    return table.assign(correct=table["choice"] == table["gold"])


def test_who_reads_the_report_turns_every_verdict():
    found = evidence._verdicts(answers(GOLD))
    assert found == {
        "corrected_pct": 100,
        "macro_f1_pct": 100,
        "recall_maybe_pct": 100,
        "flips_pct": 100,
    }


def test_who_always_says_no_turns_none_and_never_says_maybe():
    """Macro-F1 of one verdict: precision 1/3, recall 1, so F1 1/2, over three verdicts."""
    found = evidence._verdicts(answers([1] * 6))
    assert found["flips_pct"] == 0 and found["recall_maybe_pct"] == 0
    assert found["macro_f1_pct"] == pytest.approx(100 / 6)


def test_a_prior_that_hides_what_was_read_is_taken_off():
    """Every report is read, and 5 nats are added to "no": the raw choice is always no."""
    scores = [[float(gold == n) + 5 * (n == 1) for n in range(3)] for gold in GOLD]
    found = evidence._verdicts(answers([1] * 6, scores))
    assert found["corrected_pct"] == 100 and found["flips_pct"] == 0


def runs() -> pd.DataFrame:
    rows = []
    for world, gain in ((31, 30.0), (32, 40.0), (33, 50.0)):
        for seed, off in ((0, -1.0), (1, 1.0)):
            for benchmark in evidence.CLAIMED:
                for protocol in (evidence.EXAM, evidence.TRAINED):
                    for arm, acc in (("tuned", 30 + gain + off), ("control", 30.0), ("base", 25.0)):
                        rows.append([world, seed, arm, benchmark, protocol, acc])
    return pd.DataFrame(
        rows, columns="world_seed tuning_seed arm benchmark protocol acc_pct".split()
    )


def test_the_claim_is_the_mean_over_worlds_and_seeds_of_one_world_count_once():
    """Mean 40, SD over worlds 10, so 40 -+ t(2) 10 / sqrt(3) = 40 -+ 24.8, worked out by hand."""
    found = evidence.claims(runs())
    assert len(found) == 6
    assert found["gain_pts"].tolist() == [40.0] * 6 and set(found["runs"]) == {6}
    assert found["low_pts"].tolist() == pytest.approx([15.2] * 6, abs=0.05)
    exams = found[found["protocol"] == evidence.EXAM]
    assert exams["holds"].all() and found.loc[~found.index.isin(exams.index), "holds"].isna().all()


def test_continued_pretraining_is_claimed_over_worlds():
    """By hand: replay is 30, 40 and 50 points above permuted, so 40 -+ 24.8."""
    rows = []
    for seed, gain in ((41, 30.0), (42, 40.0), (43, 50.0)):
        for arm, facts, old in (
            ("base", 25, 1.0),
            ("replay", 30 + gain, 1.02 + gain / 1e4),
            ("permuted", 30, 1.02),
            ("alone", 60, 1.5 + gain / 1e4),
            ("paper", 60, 1.4),
        ):
            rows.append([seed, arm, facts, old, 1.0])
    columns = "world_seed arm facts_pct old_nats new_nats".split()
    found = evidence_meditron.claims(pd.DataFrame(rows, columns=columns))
    facts, old, spared = found.to_dict("records")[:3]
    assert (facts["mean"], facts["worlds"], facts["holds"]) == (40.0, 3, True)
    assert facts["low"] == pytest.approx(15.16, abs=0.01)
    assert old["mean"] == pytest.approx(0.024) and old["holds"]
    assert spared["mean"] == 0.48 and spared["holds"]
    assert found["holds"][3:].isna().all()


def test_preference_rounds_are_claimed_over_worlds():
    """By hand: harmless refusals fall by 60, 70 and 80 points, so -70 -+ 24.8; the exam by 1."""
    rows = []
    for seed, fall in ((41, 60.0), (42, 70.0), (43, 80.0)):
        for arm, alike, safe, unsafe, exam in (
            ("sft", 50, 95, 96, 60),
            ("round 3", 90, 95 - fall, 95, 59),
            ("flipped", 10, 99, 20, 60),
        ):
            rows.append([seed, arm, 120, alike, safe, unsafe, exam, alike, 0, 0])
    columns = ["world_seed", "arm", "n_unsafe", *evidence_med42.MEASURES]
    found = evidence_med42.claims(pd.DataFrame(rows, columns=columns))
    assert found["mean"][:6].tolist() == [40, 80, -70, -74, -1, -1]
    assert found["high"][2] == pytest.approx(-70 + 24.84, abs=0.01)
    worse = pd.DataFrame(rows, columns=columns)
    worse.loc[worse["arm"] == "round 3", "safe_pct"] = [1.0, 2.0, 20.0]  # -87.3 -+ 26.9
    assert evidence_med42.claims(worse)["low"][2] == -100, "shares differ by 100 points at most"
    assert found["holds"][:6].all() and found["holds"][6:].isna().all()
