"""A measure over runs: its mean, and where one further run may lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats as laws

# ---- over runs ---------------------------------------------------------------------------------


class OverRuns(NamedTuple):
    """A mean over worlds with its bounds, and where one further run may lie; in the values' unit.

    Attributes:
        value, low, high: mean over worlds, t interval with k - 1 degrees of freedom.
        n: worlds (k).
        sd: SD of single runs.
        next_low, next_high: prediction interval of one further run in a world of its own.
        method: in words.
    """

    value: float
    low: float
    high: float
    n: int
    sd: float
    next_low: float
    next_high: float
    method: str


def over_runs(values, level: float = 0.95, world=None) -> OverRuns:
    """Mean over worlds of a measure of their runs, such as tuned minus control.

    Several runs in one world (tuning seeds) are averaged first: they share its items and base.
    One further run lies within mean +- t sqrt(sd^2 + se^2), which is t s sqrt(1 + 1/k) where each
    world has one run.

    Args:
        values: (runs,) one value a run.
        level: two-sided level (share).
        world: (runs,) which world each run belongs to; None: each its own.

    Returns:
        The mean with both intervals.

    Raises:
        ValueError: if there are fewer than two worlds.
    """
    values = np.asarray(values, float)
    _, place = np.unique(np.arange(len(values)) if world is None else world, return_inverse=True)
    count = np.bincount(place)
    if (k := len(count)) < 2:
        raise ValueError(f"{k} worlds have no spread between them; run at least 2")
    means = np.bincount(place, values) / count
    within = ((values - means[place]) ** 2).sum() / max(1, len(values) - k)
    between, t = means.var(ddof=1), laws.t(k - 1).ppf((1 + level) / 2)
    one = between + within * (1 - (1 / count).mean())  # a mean of r runs varies less than a run
    mean, half, ahead = means.mean(), t * (between / k) ** 0.5, t * (one + between / k) ** 0.5
    ends = (mean, mean - half, mean + half)
    name = f"t over {k} worlds"
    return OverRuns(*map(float, ends), k, float(one**0.5), mean - ahead, mean + ahead, name)
