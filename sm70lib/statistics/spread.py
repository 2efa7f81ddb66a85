"""A measure over runs: its mean, and where one further run may lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats as laws


class OverRuns(NamedTuple):
    """A mean over worlds with its bounds, and where one further run may lie; in the values' unit.

    Attributes:
        value, low, high: mean over worlds, and its t interval with k - 1 degrees of freedom.
        n: number of worlds (k).
        sd: SD of single runs.
        next_low, next_high: prediction interval of one further run in a new world.
        method: the method in words.
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
        values: (runs,) one value per run.
        level: two-sided level (share).
        world: (runs,) the world of each run; None if each run has a world of its own.

    Returns:
        The mean with both intervals.

    Raises:
        ValueError: if there are fewer than two worlds.
    """
    values = np.asarray(values, float)
    names = np.arange(len(values)) if world is None else world
    _, place = np.unique(names, return_inverse=True)
    count = np.bincount(place)
    k = len(count)
    if k < 2:
        raise ValueError(f"{k} worlds have no spread between them; run at least 2")
    means = np.bincount(place, values) / count
    within = ((values - means[place]) ** 2).sum() / max(1, len(values) - k)
    between = means.var(ddof=1)
    # A mean of r runs varies less than one run does
    one_run = between + within * (1 - (1 / count).mean())
    t = laws.t(k - 1).ppf((1 + level) / 2)
    mean = means.mean()
    half = t * (between / k) ** 0.5
    ahead = t * (one_run + between / k) ** 0.5
    return OverRuns(
        value=float(mean),
        low=float(mean - half),
        high=float(mean + half),
        n=k,
        sd=float(one_run**0.5),
        next_low=mean - ahead,
        next_high=mean + ahead,
        method=f"t over {k} worlds",
    )
