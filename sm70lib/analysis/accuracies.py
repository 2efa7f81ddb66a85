"""Accuracies of every run, and the paper's table of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis import frames, quoted
from sm70lib.analysis.frames import RUN
from sm70lib.analysis.roles import TUNED
from sm70lib.parameters import aggregates
from sm70lib.statistics import stats, verdicts
from sm70lib.steps.keys import read as read_json
from sm70lib.steps.steps import LEFT_OUT
from sm70lib.study import memory

CLEANED = f"{TUNED}, without leaked items"
GUESSER = "best constant guesser"
# The set of USMLE items that has these numbers of items per step
USMLE_SETS = {
    (94, 109, 122): "the 325 items of Clinical Camel's task files and of SM70's fork",
    (92, 110, 122): "the 324 items of medical_meadow_usmle_self_assessment",
}


def results(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """Accuracies, one row per run and subset (all, clean, each kind), of aggregates too.

    Args:
        answers: rows of `frames.load`.
        how: level of the intervals.

    Returns:
        `n` counts items, even where several seeds were asked. `low_pct` and `high_pct` are for
        display; `bound_low_pct` and `bound_high_pct` may each be used alone. `best_constant_pct` is
        the best constant guesser. `commonest_pct` is the share of the commonest choice (a model is
        constant from 95 on), `right_rank` the mean rank of the right option (1 is the likeliest),
        and `spread_pts` the SD over seeds, which is no interval. Where most replies are unread
        there is no accuracy, and `interval` says why.
    """
    rows = []
    names = aggregates.names(answers["benchmark"])
    for keys, run in frames.named(answers, names).groupby(RUN):
        run_of = dict(zip(RUN, keys))
        whole = _accuracy(run, how)
        leaks = run["flagged"].any()
        rows.append(run_of | {"subset": "all"} | whole)
        parts = {}
        if leaks:
            parts["clean"] = run[~run["flagged"]]
        else:
            rows.append(run_of | {"subset": "clean"} | whole)
        parts |= dict(iter(run.groupby("kind")))
        for name, part in parts.items():
            if len(part):
                rows.append(run_of | {"subset": name} | _accuracy(part, how))
    return pd.DataFrame(rows)


def _accuracy(part: pd.DataFrame, how: stats.How) -> dict:
    """The cells of `results` that follow the run's: accuracy, bounds, habits, seeds and mass."""
    cells = frames.accuracy(part, how)
    n = cells.pop("n")
    unscored = pd.isna(cells["acc_pct"])
    correct, cluster, weight = frames.scored(part)
    bounds = verdicts.accuracy(correct, cluster, how.level, weight).row()
    norm = round(100 * part["correct_norm"].astype(float).mean(), 1)
    guesser = benchmarks.best_constant_accuracy(list(part["item"]))
    chosen = part["choice"].dropna().value_counts(normalize=True)
    nan = float("nan")
    cells = {"n": n, "correct": round(float(correct.sum()))} | cells
    cells |= {
        "bound_low_pct": nan if unscored else bounds["low_pct"],
        "bound_high_pct": nan if unscored else bounds["high_pct"],
        "acc_norm_pct": nan if unscored else norm,
        "best_constant_pct": round(100 * guesser, 1),
        "commonest_pct": round(100 * chosen.max(), 1),
        "right_rank": round(verdicts.mean_rank(part["loglikelihoods"], part["gold"]), 2),
        "unparsed": int(part["choice"].isna().sum()),
    }
    seeds = part.groupby("seed")["correct"].mean()
    if len(seeds) > 1:
        cells |= {"seeds": len(seeds), "spread_pts": round(100 * seeds.std(), 1)}
    if "mass" in part and part["mass"].notna().all():
        cells["mass_pct"] = round(100 * part["mass"].mean(), 1)
    return cells


def left_out(outputs: Path, studies: list[str]) -> pd.DataFrame:
    """Models too large for the memory in 04: study, model, cell (`not scored here: 138 GB`)."""
    rows = []
    for study in studies:
        unscored = read_json(outputs / study / "predictions" / LEFT_OUT)
        for model, about in unscored.items():
            needed = memory.words(about["needed_gb"])
            rows.append((study, model, f"not scored here: {needed}"))
    return pd.DataFrame(rows, columns=["study", "model", "cell"])


def wide(
    found: pd.DataFrame,
    names: list[str],
    others: pd.DataFrame,
    lacking: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Models by benchmarks, as papers print them; a row is one model, protocol and shots.

    Args:
        found: `results`.
        names: the benchmarks to show.
        others: quoted rows; those that have, or may have, our shots are shown (with †).
        lacking: `left_out`, the models that could not be scored on some or all benchmarks.

    Returns:
        Our models, tuned again without leaked items, the best constant guesser, then the others.
    """
    own = found[found["benchmark"].isin(names) & found["subset"].isin(["all", "clean"])]
    own = own.assign(
        source="study " + own["study"],
        shots=own["shots"].astype(str),
        cell=[frames.shown(row, f" n={row.n}") for row in own.itertuples()],
    )
    whole = own[own["subset"] == "all"]
    unscored = _unscored(whole, lacking) if lacking is not None else own[:0]
    theirs = _cited(others[others["benchmark"].isin(names)], found["shots"].unique())
    cells = pd.concat([whole, _cleaned(own), _guessed(whole), theirs, unscored])
    keys = ["source", "model", "protocol", "shots"]
    table = cells.pivot(index=keys, columns="benchmark", values="cell").fillna("").reset_index()
    order = [_place(row.source, row.model) for row in table.itertuples()]
    table = table.iloc[sorted(range(len(table)), key=order.__getitem__)].reset_index(drop=True)
    shown = [*keys[1:], *(name for name in names if name in table), "source"]
    return table[shown].rename_axis(columns=None)


def _place(source: str, model: str) -> tuple[bool, str, str]:
    """What rows of `wide` are sorted by: our studies first, and the tuned model after its base."""
    quoted_elsewhere = not source.startswith("study ")
    last = {TUNED: "~1", CLEANED: "~2", GUESSER: "~3"}  # "~" sorts after the other models' names
    return quoted_elsewhere, source, last.get(model, model)


def _guessed(whole: pd.DataFrame) -> pd.DataFrame:
    """The best constant guesser on each benchmark; of studies where it is the same, once."""
    guess = whole.drop_duplicates(["benchmark", "best_constant_pct"])
    value = guess["best_constant_pct"].astype(str)
    return guess.assign(model=GUESSER, protocol="", shots="", cell=value)


def _cleaned(own: pd.DataFrame) -> pd.DataFrame:
    """Tuned without the leaked items, on the benchmarks that have leaked items."""
    tuned = own[own["model"] == TUNED]
    whole, clean = tuned[tuned["subset"] == "all"], tuned[tuned["subset"] == "clean"]
    sizes = whole[[*RUN, "n"]].assign(shots=whole["shots"])
    both = clean.merge(sizes, on=RUN, suffixes=("", "_all"))
    return both[both["n"] < both["n_all"]].assign(model=CLEANED)


def _cited(others: pd.DataFrame, shots) -> pd.DataFrame:
    """Quoted rows as cells."""
    theirs = quoted.fitting(quoted.usable(others), list(shots))
    return theirs.assign(
        model=theirs["system"] + " †",
        protocol=theirs["protocol"].fillna("not stated"),
        shots=theirs["shots"].astype("string").fillna("not stated"),
        cell=[quoted.cell(row) for row in theirs.to_dict("records")],
    )


def _unscored(own: pd.DataFrame, lacking: pd.DataFrame) -> pd.DataFrame:
    """A cell for each benchmark of a study on which a model of `lacking` has no score."""
    places = own[["study", "source", "protocol", "shots", "benchmark"]].drop_duplicates()
    wanted = places.merge(lacking, on="study")
    scored = set(zip(own["study"], own["model"], own["benchmark"]))
    keys = zip(wanted["study"], wanted["model"], wanted["benchmark"])
    return wanted[[key not in scored for key in keys]]


def medical(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers to TruthfulQA as Meditron asks it, with the question's category as the benchmark.

    `results` of them has the mean of the four categories too, each with the same weight.
    """
    asked = answers[(answers["benchmark"] == "truthfulqa") & (answers["protocol"] == "meditron")]
    return asked.assign(benchmark=[item.details.category for item in asked["item"]])


def usmle_set(answers: pd.DataFrame) -> str:
    """Whose USMLE items a study asked, as the number of items per step tells."""
    items = answers[answers["benchmark"].isin(aggregates.USMLE_STEPS)]
    sizes = tuple(items.groupby("benchmark")["item_id"].nunique())
    known = USMLE_SETS.get(sizes, f"neither {' nor '.join(USMLE_SETS.values())}")
    by_step = " / ".join(map(str, sizes))
    return f"Items by step: {by_step}, {known}."
