"""Accuracies of every run, and the paper's table of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis import frames, quoted
from sm70lib.analysis.frames import AFTER, RUN
from sm70lib.statistics import stats, verdicts
from sm70lib.study import memory
from sm70lib.study.keys import read as read_json
from sm70lib.study.steps import LEFT_OUT

CLEANED = f"{AFTER}, without leaked items"
GUESSER = "best constant guesser"
# How many items each USMLE step has, and whose set it is
USMLE_SETS = {
    (94, 109, 122): "the 325 items of Clinical Camel's task files and of SM70's fork",
    (92, 110, 122): "the 324 items of medical_meadow_usmle_self_assessment",
}


def results(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """One row per run and subset (all, clean, each kind): accuracy, interval, constant guesser.

    n counts items, also where several seeds were asked; `spread_pts` is the SD of the seeds, which
    is no interval. `low_pct` and `high_pct` are for display, `bound_low_pct` and `bound_high_pct`
    may each be used alone. `commonest_pct` is the share of the commonest choice (from 95 on a model
    is constant), `right_rank` the mean rank of the right option (1 is the likeliest). Where most
    replies are unread there is no accuracy, and `interval` says why.
    """
    rows = []
    for keys, run in answers.groupby(RUN):
        run_of, macro = dict(zip(RUN, keys)), keys[2] == "usmle_macro"
        whole, leaks = _accuracy(run, macro, how), run["flagged"].any()
        rows.append(run_of | {"subset": "all"} | whole)
        if not leaks:
            rows.append(run_of | {"subset": "clean"} | whole)
        parts = {"clean": run[~run["flagged"]]} if leaks else {}
        for name, part in (parts | dict(iter(run.groupby("kind")))).items():
            if len(part):
                rows.append(run_of | {"subset": name} | _accuracy(part, macro, how))
    return pd.DataFrame(rows)


def _accuracy(part: pd.DataFrame, macro: bool, how: stats.How) -> dict:
    """The cells of `results` beside the run: the accuracy, its bounds, habits, seeds, mass."""
    found = frames.accuracy(part, how, macro)
    unscored, nan = pd.isna(found["acc_pct"]), float("nan")
    norm = round(100 * part["correct_norm"].astype(float).mean(), 1)
    seeds = part.groupby("seed")["correct"].mean()
    correct, cluster, weight = frames.scored(part, macro)
    bounds = verdicts.accuracy(correct, cluster, how.level, weight).row()
    read = part["choice"].dropna()
    return (
        {"n": found.pop("n"), "correct": round(float(correct.sum()))}
        | found
        | {
            "bound_low_pct": nan if unscored else bounds["low_pct"],
            "bound_high_pct": nan if unscored else bounds["high_pct"],
            "acc_norm_pct": nan if unscored else norm,
            "best_constant_pct": round(
                100 * benchmarks.best_constant_accuracy(list(part["item"])), 1
            ),
            "commonest_pct": round(100 * read.value_counts(normalize=True).max(), 1),
            "right_rank": round(verdicts.mean_rank(part["loglikelihoods"], part["gold"]), 2),
            "unparsed": int(part["choice"].isna().sum()),
        }
        | (
            {"seeds": len(seeds), "spread_pts": round(100 * seeds.std(), 1)}
            if len(seeds) > 1
            else {}
        )
        | (
            {"mass_pct": round(100 * part["mass"].mean(), 1)}
            if "mass" in part and part["mass"].notna().all()
            else {}
        )
    )


def left_out(outputs: Path, studies: list[str]) -> pd.DataFrame:
    """Models that 04 had no memory for: study, model, cell (`not scored here: 138 GB`)."""
    rows = []
    for study in studies:
        lacking = read_json(outputs / study / "predictions" / LEFT_OUT)
        rows += [
            (study, name, f"not scored here: {memory.words(lack['needed_gb'])}")
            for name, lack in lacking.items()
        ]
    return pd.DataFrame(rows, columns=["study", "model", "cell"])


def wide(
    found: pd.DataFrame,
    names: list[str],
    others: pd.DataFrame,
    lacking: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Models by benchmarks, as papers print it; a row is one model under one protocol and shots.

    Args:
        found: `results`.
        names: the benchmarks to show.
        others: quoted rows, of which those are shown (with †) that have, or may have, our shots.
        lacking: `left_out`, the models that could not be scored, or not on all benchmarks.

    Returns:
        Ours, tuned once more without leaked items, the best constant guesser, then the others.
    """
    own = found[found["benchmark"].isin(names) & found["subset"].isin(["all", "clean"])]
    own = own.assign(
        source="study " + own["study"],
        shots=own["shots"].astype(str),
        cell=[frames.shown(row, f" n={row.n}") for row in own.itertuples()],
    )
    whole = own[own["subset"] == "all"]
    guess = whole.drop_duplicates(["study", "benchmark"])
    guess = guess.assign(
        model=GUESSER, protocol="", shots="", cell=guess["best_constant_pct"].astype(str)
    )
    unscored = _unscored(whole, lacking) if lacking is not None else own[:0]
    theirs = _cited(others[others["benchmark"].isin(names)], found["shots"].unique())
    cells = pd.concat([whole, _cleaned(own), guess, theirs, unscored])
    keys = ["source", "model", "protocol", "shots"]
    table = cells.pivot(index=keys, columns="benchmark", values="cell").fillna("").reset_index()
    rank = {AFTER: "~1", CLEANED: "~2", GUESSER: "~3"}  # "~" sorts after the other models' names
    order = [
        (not row.source.startswith("study "), row.source, rank.get(row.model, row.model))
        for row in table.itertuples()
    ]
    table = table.iloc[sorted(range(len(table)), key=order.__getitem__)].reset_index(drop=True)
    shown = [*keys[1:], *(name for name in names if name in table), "source"]
    return table[shown].rename_axis(columns=None)


def _cleaned(own: pd.DataFrame) -> pd.DataFrame:
    """Tuned without the leaked items, where a benchmark has such."""
    tuned = own[own["model"] == AFTER]
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
    """A cell for every benchmark that a study asked and a model left out was not asked."""
    asked = (
        own[["study", "source", "protocol", "shots", "benchmark"]]
        .drop_duplicates()
        .merge(lacking, on="study")
    )
    there = set(zip(own["study"], own["model"], own["benchmark"]))
    keys = zip(asked["study"], asked["model"], asked["benchmark"])
    return asked[[key not in there for key in keys]]


def usmle_set(answers: pd.DataFrame) -> str:
    """Whose USMLE items a study asked, told by how many each step has."""
    items = answers[answers["benchmark"].str.startswith("usmle_step")]
    sizes = tuple(items.groupby("benchmark")["item_id"].nunique())
    known = USMLE_SETS.get(sizes, f"neither {' nor '.join(USMLE_SETS.values())}")
    return f"Items by step: {' / '.join(map(str, sizes))}, {known}."
