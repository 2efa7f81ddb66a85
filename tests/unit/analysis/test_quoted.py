"""What others report: sources, what is stated or inferred, the order against our scores."""

import math
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import binomtest

from sm70lib import benchmarks
from sm70lib.analysis import quoted
from sm70lib.parameters import aggregates
from sm70lib.statistics.stats import Estimate
from sm70lib.study.params import StudyError

ROWS = quoted.read()
SIZES = {  # counted in the benchmarks' files; Meditron's loader loses a row of each subject
    "medqa_4": {1273},
    "medqa_5": {1273},
    "medmcqa": {4183},
    "pubmedqa": {500, 1000},
    "mmlu_medical_9": {1862},
    "usmle_step1": {94},
    "usmle_step2": {109},
    "usmle_step3": {122},
    "usmle_macro": {324, 325, 376},
}


def at(system, benchmark, shots):
    found = quoted.usable(ROWS)
    found = found[(found["system"] == system) & (found["benchmark"] == benchmark)]
    (row,) = found[found["shots"].eq(shots).fillna(False)].to_dict("records")
    return row


def test_quoted_values_have_sources_and_the_unreadable_ones_are_empty():
    assert len(ROWS) == 397 and ROWS["source"].notna().all()
    assert set(ROWS["status"]) == {"verified", "unverified"} and set(ROWS["metric"]) == {
        "acc",
        "acc_norm",
        "mean",
        "score",
    }
    own = ROWS[ROWS["system"] == "SM70"]
    assert len(own) == 3 and own["value_pct"].isna().all() and own["note"].notna().all()
    assert ROWS.loc[ROWS["system"] != "SM70", "value_pct"].between(0, 100).all()
    interim = ROWS[ROWS["system"].str.startswith("SM70 interim")]
    assert len(interim) == 12 and interim["note"].str.contains("not the published model").all()
    unsure = ROWS[(ROWS["status"] == "unverified") & ROWS["value_pct"].notna()]
    assert set(unsure["system"]) == {"Med-PaLM-540B", "Clinical Camel 70B"} and len(unsure) == 4
    assert not quoted.usable(ROWS)["system"].isin(["Med-PaLM-540B", "SM70"]).any()


def test_a_number_that_is_quoted_twice_is_refused(tmp_path):
    text = Path(quoted.__file__).with_name("quoted.csv").read_text()
    lines = text.splitlines(keepends=True)
    (tmp_path / "quoted.csv").write_text("".join([*lines, lines[4].replace("56.48", "99.9")]))
    said = f"quoted.csv, lines 5 and {len(lines) + 1}: both quote SM70 interim"
    with pytest.raises(StudyError, match=said):
        quoted.read(tmp_path / "quoted.csv")


def test_what_is_inferred_is_told_from_what_is_stated():
    checked = 0
    for row in ROWS.to_dict("records"):
        assert pd.isna(row["n"]) or pd.isna(row["n_plausible"]), "stated or inferred, not both"
        assert pd.isna(row["shots"]) or pd.isna(row["shots_plausible"])
        sizes = quoted.counts(row, "n")
        assert sizes == sorted(set(sizes))
        if row["benchmark"] in SIZES and pd.isna(row["subset"]) and not pd.isna(row["value_pct"]):
            assert set(sizes) <= SIZES[row["benchmark"]] and sizes, row
            checked += 1
    assert checked > 90
    assert at("Clinical Camel 70B", "pubmedqa", 5)["n_plausible"] == "1000"
    assert quoted.counts(at("GPT-4", "pubmedqa", 5), "n") == [500, 1000]


def fits(value: float, n: int) -> bool:
    """Whether some count of n items, rounded or cut off, is printed as that percentage."""
    unit = 10.0 ** -len(f"{value}".partition(".")[2])
    return math.ceil((value - unit / 2) * n / 100 - 1e-9) <= (value + unit) * n / 100 - 1e-9


def test_a_printed_value_is_a_count_of_its_items():
    """But means over seeds, steps or categories, and two values that are no count of anything."""
    texts = ROWS[["benchmark", "subset", "protocol"]].fillna("").agg(" ".join, axis=1)
    single = ROWS[~texts.str.contains("mean of|macro") & ROWS["metric"].ne("mean")]
    known, odd = 0, []
    for row in single[single["value_pct"].notna()].to_dict("records"):
        sizes = quoted.counts(row, "n")
        known += bool(sizes)
        if sizes and not any(fits(row["value_pct"], n) for n in sizes):
            odd.append((row["system"], row["benchmark"], row["subset"], row["value_pct"]))
    assert known > 200
    assert odd == [
        ("Meditron-70B", "truthfulqa", "Nutrition", 77.9),
        ("Llama-2-70B", "mmlu_medical", "medical_genetics", 81.1),
    ]
    assert fits(77.9, 1000) and not fits(77.9, 500), "Clinical Camel's PubMedQA is of all 1,000"
    assert not fits(54.3, 325), "its zero-shot USMLE is no count of 325, so rather a mean"


def test_a_value_that_no_count_gives_is_said_with_the_two_that_come_near_it():
    single = quoted.by_category(ROWS)
    single = single[single["benchmark"].isin(aggregates.MEDICAL)]
    assert len(single) == 24 and quoted.impossible(single) == [
        "Meditron-70B's printed 77.9 in Nutrition is not a share of 16 questions: the nearest are "
        "12 (75.00) or 13 (81.25)."
    ]


def test_printed_averages_agree_with_the_values_beside_them():
    """A check of every transcribed row: papers print the mean of a model's benchmarks too."""
    wrong, means = [], ROWS[ROWS["metric"] == "mean"]
    for row in means.to_dict("records"):
        keys = ["system", "source", "protocol"]
        part = ROWS[(ROWS[keys] == [row[key] for key in keys]).all(axis=1)]
        part = part[part["metric"] == "acc"]
        assert len(part) in (5, 7)
        if abs(part["value_pct"].mean() - row["value_pct"]) > 0.051:
            wrong.append((row["system"], row["value_pct"], round(part["value_pct"].mean(), 1)))
    assert len(means) == 33
    assert wrong == [("Meditron-7B", 57.5, 57.8)], "which is wrong in print"


def test_corrections_to_what_is_printed_stay():
    four = at("GPT-4", "medqa_4", 5)
    assert four["value_pct"] == 81.4 and "ClinicalCamel" in four["source"]
    assert ROWS[(ROWS["system"] == "GPT-4") & (ROWS["value_pct"] == 82.3)]["source"].tolist() == [
        "Meditron, arXiv 2311.16079, Figure 3"
    ]
    palm = ROWS[(ROWS["system"] == "Med-PaLM 2") & (ROWS["value_pct"] == 86.5)]
    assert palm["benchmark"].tolist() == ["medqa_4"], "neither Med-PaLM reported five options"
    board = ROWS[ROWS["protocol"] == "Open Medical-LLM leaderboard"].set_index("benchmark")
    assert board["value_pct"].to_dict() == {"medqa_4": 57.1, "pubmedqa": 76.6, "medmcqa": 46.8}
    steps = ROWS[ROWS["benchmark"].str.startswith("usmle_step")]
    counts = [
        round(row.value_pct * row.n / 100) for row in steps.sort_values("system").itertuples()
    ]
    assert counts == [50, 56, 71, 34, 62, 68], "Clinical Camel v1, then GPT-3.5, by step"
    assert set(ROWS["benchmark"]) - set(benchmarks.BENCHMARKS) == {
        "usmle",
        "usmle_macro",
        "average",
    }


@pytest.mark.parametrize(
    ("value", "n"), [(77.9, 1000), (60.7, 1273), (58.92, 1273), (0.0, 19), (100.0, 9), (64.3, 325)]
)
def test_bounds_of_a_printed_value_hold_for_every_count_that_rounds_to_it(value, n):
    """Compared with scipy's exact interval, count by count."""
    half, found, checked = (
        0.5 * 10.0 ** -len(f"{value}".partition(".")[2]),
        quoted.bounds(value, n, 0.95),
        0,
    )
    for count in range(n + 1):
        if abs(100 * count / n - value) <= half:
            exact = binomtest(count, n).proportion_ci(0.95, "exact")
            assert found.low <= exact.low + 1e-9 and exact.high - 1e-9 <= found.high
            assert found.low > exact.low - 0.002 and found.high < exact.high + 0.002, "not wider"
            checked += 1
    assert checked >= 1


def estimate(value, half, n=1000):
    return Estimate(value, value - half, value + half, n, "")


def test_an_order_is_judged_only_where_everything_plausible_agrees():
    """75.2 of 500 items or of 1,000 items, against a score of 79 % +- 2.5."""
    ours = estimate(0.79, 0.025)
    gaps = {n: quoted.gap(ours, {"value_pct": 75.2}, n, 0.95) for n in (500, 1000)}
    assert gaps[1000].low > 0 > gaps[500].low, "the smaller n cannot tell"
    assert quoted.order(list(gaps.values()), 1) == quoted.DEPENDS
    assert quoted.order([gaps[1000]], 1) == quoted.HOLDS
    assert quoted.order([gaps[1000]], -1) == quoted.REVERSED
    assert quoted.order([gaps[1000]], 0) == quoted.ABOVE
    assert quoted.order([gaps[500]], 1) == quoted.order([gaps[500]], -1) == quoted.INSIDE
    assert quoted.order([], 1) == quoted.NO_N
    assert (
        quoted.order([quoted.gap(estimate(0.5, 0.03), {"value_pct": 75.2}, 500, 0.95)], 0)
        == quoted.BELOW
    )


def test_the_nearest_rows_are_of_our_shots_or_may_be():
    usable = quoted.usable(ROWS)
    gpt = usable[(usable["system"] == "GPT-4") & (usable["benchmark"] == "medqa_4")]
    assert [row["value_pct"] for row in quoted.nearest(gpt, 5)] == [81.4, 82.3]
    assert sorted(row["value_pct"] for row in quoted.nearest(gpt, 0)) == [78.9, 78.9, 82.3]
    assert len(quoted.nearest(gpt, 3)) == len(gpt) == 4, "where none fits, all are shown"
    once = quoted.once(quoted.nearest(gpt, 0))
    assert [row["value_pct"] for row in once] == [78.9, 82.3]
    assert "; also Med42-v2" in once[0]["source"] and once[0]["shots"] == 0
    said = quoted.asked(gpt.iloc[0].to_dict())
    assert said == "as quoted beside Clinical Camel; 5-shot; n not stated, 1273 inferred"
    assert quoted.cell(gpt.iloc[0].to_dict()) == "81.4 n~1273"


def test_same_protocol_means_name_shots_and_n():
    row = {"protocol": "sm70-2023", "shots": 5, "n": 1273}
    assert quoted.same(row, "sm70-2023", 5, 1273)
    for other in ({"shots": 0}, {"n": 1000}, {"n": pd.NA}, {"protocol": "harness"}):
        assert not quoted.same(row | other, "sm70-2023", 5, 1273), other
    ours = ROWS[ROWS["protocol"].isin(["sm70-2023", "harness", "meditron", "med42"])]
    assert set(ours["system"]) == {"SM70 interim (PH70_MedAlpaca300)"} and len(ours) == 2
