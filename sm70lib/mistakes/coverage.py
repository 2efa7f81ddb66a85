"""How accurate the surest answers are (risk against coverage, El-Yaniv and Wiener 2010)."""

from __future__ import annotations

import pandas as pd

from sm70lib.analysis import frames
from sm70lib.analysis.frames import RUN
from sm70lib.analysis.slices import FEWEST
from sm70lib.statistics import stats

SHARES = range(10, 101, 10)  # percent of the items


def coverage(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """Accuracy of the surest tenth of the answers, of the surest two tenths, and so on.

    Args:
        answers: rows of `frames.load`; written replies have no confidence and are left out.
        how: level of the intervals.

    Returns:
        One row per run and share: `coverage_pct`, the least `confidence` among these answers, n,
        and accuracy with its interval. There is no row of fewer than FEWEST items.
    """
    rows = []
    for keys, run in answers.groupby(RUN):
        ordered = by_confidence(run)
        for share in SHARES:
            part = surest(ordered, share)
            if part["item_id"].nunique() >= FEWEST:
                cells = {"coverage_pct": share, "confidence": round(part["confidence"].min(), 3)}
                rows.append(dict(zip(RUN, keys)) | cells | frames.accuracy(part, how))
    measured = ["n", "acc_pct", "low_pct", "high_pct", "interval"]
    return pd.DataFrame(rows, columns=[*RUN, "coverage_pct", "confidence", *measured])


def by_confidence(run: pd.DataFrame) -> pd.DataFrame:
    """The answers of a run that have a confidence, the surest one first.

    Of equally sure ones, the one that stands first in its file comes first.

    Args:
        run: rows of `frames.load`, of one run.
    """
    known = run.dropna(subset="confidence")
    return known.sort_values("confidence", ascending=False, kind="stable")


def surest(ordered: pd.DataFrame, share: int) -> pd.DataFrame:
    """The surest answers of a run.

    Args:
        ordered: rows of `by_confidence`.
        share: how many, in percent of these rows.
    """
    return ordered[: round(len(ordered) * share / 100)]
