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
        for share in SHARES:
            part = surest(run, share)
            if part["item_id"].nunique() >= FEWEST:
                cells = {"coverage_pct": share, "confidence": round(part["confidence"].min(), 3)}
                rows.append(dict(zip(RUN, keys)) | cells | frames.accuracy(part, how))
    measured = ["n", "acc_pct", "low_pct", "high_pct", "interval"]
    return pd.DataFrame(rows, columns=[*RUN, "coverage_pct", "confidence", *measured])


def surest(run: pd.DataFrame, share: int) -> pd.DataFrame:
    """The surest answers of a run; of equally sure ones, those that stand first in their file.

    Args:
        run: rows of `frames.load`, of one run.
        share: how many, in percent of the answers that have a confidence.

    Returns:
        These answers, the surest one first.
    """
    known = run.dropna(subset="confidence")
    known = known.sort_values("confidence", ascending=False, kind="stable")
    return known[: round(len(known) * share / 100)]
