"""The committed results of the small studies follow from their committed predictions."""

import json
import math

import pandas as pd
import pytest

from sm70lib.mistakes import narrow
from tests.results import reference, small

FOLDER = small.REFERENCES / "small"
ARMS = {"small": FOLDER, "small-b": FOLDER / "small-b"}


def answers(study: str, model: str, run: str) -> pd.DataFrame:
    """The lines of a prediction file, by item."""
    path = ARMS[study] / f"predictions/{model}/{run}.jsonl"
    return pd.DataFrame(map(json.loads, path.open())).set_index("item_id")


def test_every_accuracy_is_that_of_its_prediction_file():
    results = pd.read_csv(FOLDER / "tables/results.csv")
    whole = results[results["subset"] == "all"]
    for row in whole.itertuples():
        lines = answers(row.study, row.model, f"{row.benchmark}-{row.protocol}-{row.shots}")
        assert lines.index.is_unique and len(lines) == row.n
        assert round(100 * lines["correct"].mean(), 1) == pytest.approx(row.acc_pct, abs=0.051)
    assert len(whole) >= 20, "three models on up to eight benchmarks"


def held(study: str) -> set[str]:
    """The MMLU items that a row holds on which the arm was tuned."""
    hits = pd.read_csv(ARMS[study] / "data/contaminated_items.csv", dtype=str)
    defects = pd.read_csv(ARMS[study] / "data/defects.csv", dtype=str)
    dropped = defects[defects["dropped"] == "True"]
    gone = set(zip(dropped["file"], dropped["row"]))
    kept = [place not in gone for place in zip(hits["file"], hits["row"])]
    return set(hits["item_id"][kept])


def log_share(line) -> float:
    """The logarithm of the right letter's share of the probability of all letters."""
    total = math.log(sum(math.exp(value) for value in line["loglikelihoods"]))
    return line["loglikelihoods"][line["gold"]] - total


def test_the_crossover_is_half_of_what_each_arm_has_over_the_other_on_its_own_rows():
    shares = {
        study: answers(study, "tuned", "mmlu_medical-as-trained-letters-0").apply(log_share, axis=1)
        for study in ARMS
    }
    gap = shares["small"] - shares["small-b"]
    mine, theirs = held("small"), held("small-b")
    first = gap[[item for item in gap.index if item in mine - theirs]]
    second = gap[[item for item in gap.index if item in theirs - mine]]
    card = pd.read_csv(FOLDER / "tables/scorecard.csv")
    (row,) = card[card["measure"] == "leak (nats)"].itertuples()
    assert row.n == len(first) + len(second) >= 100
    assert (first.mean() - second.mean()) / 2 == pytest.approx(row.ours, abs=1e-3)
    assert row.low < row.ours < row.high


def test_the_readme_shows_every_declared_claim_of_the_committed_run():
    shown = reference.around("small")[1]
    assert shown == small.block() and shown.count("**") == 2 * 2 * 8, "eight of two studies"


def test_nothing_of_the_exams_or_of_a_machine_is_committed():
    files = [path for path in FOLDER.rglob("*") if path.suffix in (".csv", ".json", ".jsonl")]
    assert not any(path.stem == "errors" or "/home/" in path.read_text() for path in files)
    assert len(files) > 40


def test_every_committed_table_that_trace_names_has_columns_that_it_knows():
    """A column that is new in a table would otherwise be noticed by whoever traces it."""
    tables = [
        path
        for name in ("results", "comparisons", "contamination_effect", "errors*")
        for path in sorted(small.REFERENCES.glob(f"*/tables/{name}.csv"))
        if path.stem != "errors_side_by_side"  # a text for each model
    ]
    assert len(tables) >= 60
    for path in tables:
        narrow.check(dict.fromkeys(pd.read_csv(path, nrows=0), ""), path.name)
