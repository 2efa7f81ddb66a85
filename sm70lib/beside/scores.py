"""What two studies differ in: their parameters, and their scores on the same items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sm70lib.analysis import comparisons, frames
from sm70lib.parameters.fields import FIELDS
from sm70lib.statistics import differences, stats
from sm70lib.steps.keys import read
from sm70lib.study.params import affects

PLACE = ["model", "benchmark", "protocol", "shots"]
SAME = [*PLACE, "item_id", "seed", "sample"]  # one answer of both studies
ABSENT = "–"
NOT_SHOWN = ("study", "stats_", "figures_", "eval_primary_")  # how results are judged and shown


def changed(folder: Path, other: Path) -> pd.DataFrame:
    """The parameters that affect results and differ between two studies.

    Args:
        folder: outputs/<study>.
        other: the folder of the other study.

    Returns:
        Columns parameter, this study, other study; "–" where a parameter plays no part.
    """
    mine, theirs = (_parameters(each) for each in (folder, other))
    rows = [
        (name, _written(mine, name), _written(theirs, name))
        for name in sorted({*mine, *theirs})
        if mine.get(name, ABSENT) != theirs.get(name, ABSENT)
    ]
    return pd.DataFrame(rows, columns=["parameter", "this study", "other study"])


def _parameters(folder: Path) -> dict[str, Any]:
    """The parameters in a study's manifest that affect what it trains and asks."""
    values = read(folder / "manifest.json").get("parameters", {})
    known = {name for name in values if name in FIELDS and affects(name) == "results"}
    return {name: values[name] for name in known if not name.startswith(NOT_SHOWN)}


def _written(values: dict[str, Any], name: str) -> str:
    """A value as study files write it."""
    if name not in values:
        return ABSENT
    text = yaml.safe_dump(values[name], default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()


def shared(answers: pd.DataFrame, study: str, other: str) -> pd.DataFrame:
    """The answers of both studies' models to the same questions, asked in the same way.

    Args:
        answers: rows of `frames.load`, of both studies.
        study: the study that stands first; its columns end in `_a`.
        other: the other one; its columns end in `_b`.

    Returns:
        One row per model and answer. Items of one id whose question or options differ, as those of
        two invented worlds do, are not the same and are left out.
    """
    sides = [answers[answers["study"] == name] for name in (study, other)]
    columns = [*SAME, "item", "choice", "correct"]
    both = sides[0].merge(sides[1][columns], on=SAME, suffixes=("_a", "_b"))
    asked = zip(both["item_a"], both["item_b"])
    same = [
        (a.question, a.context, a.options) == (b.question, b.context, b.options) for a, b in asked
    ]
    return both[np.array(same, dtype=bool)]  # a list without elements would choose columns


def paired(answers: pd.DataFrame, study: str, other: str, how: stats.How) -> pd.DataFrame:
    """Scores of two studies on the items that both asked, with the interval of the difference.

    Args:
        answers: rows of `frames.load`, of both studies.
        study: the study that stands first.
        other: the other one, which is subtracted.
        how: level of the intervals.

    Returns:
        One row per model of both, benchmark, protocol and shots: n, both accuracies, the difference
        in points with its interval, and a reading that follows from the interval; no verdict where
        a model nearly always chose the same option. The comparisons are exploratory, each at the
        plain level.
    """
    both = shared(answers, study, other)
    rows = [
        dict(zip(PLACE, keys)) | _compared(part, study, other, how)
        for keys, part in both.groupby(PLACE)
    ]
    measured = ["n", "this_pct", "other_pct", "difference_pts", "low_pts", "high_pts"]
    return pd.DataFrame(rows, columns=[*PLACE, *measured, "interval", "reading"])


def _compared(part: pd.DataFrame, study: str, other: str, how: stats.How) -> dict[str, Any]:
    """The cells of `paired` that follow the place."""
    unread = frames.unread(part, study, other)
    if unread:
        return {"n": part["item_id"].nunique(), "reading": unread}
    items = frames.by_item(part, ["correct_a", "correct_b"])
    mine, theirs = items["correct_a"].astype(float), items["correct_b"].astype(float)
    gap = differences.difference(theirs, mine, items["cluster"], how.level)
    shares = {
        "this_pct": round(100 * mine.mean(), 1),
        "other_pct": round(100 * theirs.mean(), 1),
    }
    return (
        gap.row("difference_pts", "pts")
        | shares
        | {"reading": comparisons.reading(part, (other, "choice_b"), (study, "choice_a"), gap)}
    )
