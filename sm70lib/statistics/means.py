"""Means over clusters: t intervals of a mean, and of a crossover of two groups of items."""

from __future__ import annotations

import numpy as np
from scipy import stats as laws

from sm70lib.statistics import effective
from sm70lib.statistics.differences import FEWEST, NONE
from sm70lib.statistics.stats import Estimate


def mean(values, cluster, level: float = 0.95) -> Estimate:
    """A mean with bounds by t on the sums of clusters.

    Args:
        values: (n,) in any unit.
        cluster: (n,) what values have in common.
        level: two-sided level (share).

    Returns:
        The mean of n values. With fewer than 20 clusters the bounds are infinite, and `method`
        says why.
    """
    value, error, clusters = _mean(values, cluster)
    return _by_t(value, error, clusters - 1, len(values), clusters, level)


def crossover(first, second, cluster_first, cluster_second, level: float = 0.95) -> Estimate:
    """Half of the mean of one group minus the mean of another, by Welch's t on cluster sums.

    With two models A and B, `first` is A - B on items that only A was trained on, `second` is A - B
    on items that only B was trained on. What the models differ in on all items alike cancels out,
    and what is left is the worth of having seen an item.

    Args:
        first: (n,) in any unit.
        second: (m,) in the same unit.
        cluster_first: (n,) what values have in common.
        cluster_second: (m,) likewise.
        level: two-sided level (share).

    Returns:
        The effect on n + m values; bounds as in `mean`, for which each group needs 20 clusters.
    """
    one, error_one, k = _mean(first, cluster_first)
    two, error_two, m = _mean(second, cluster_second)
    error = np.hypot(error_one, error_two)
    freedom = min(k, m) - 1.0
    if min(k, m) > 1 and error > 0:  # Welch (1947, Biometrika 34:28) and Satterthwaite
        freedom = error**4 / (error_one**4 / (k - 1) + error_two**4 / (m - 1))
    n = len(first) + len(second)
    return _by_t((one - two) / 2, error / 2, freedom, n, min(k, m), level)


def _mean(values, cluster) -> tuple[float, float, int]:
    """The mean, its standard error by clusters, and the number of clusters."""
    values = np.asarray(values, float)
    if not len(values):
        return float("nan"), float("inf"), 0
    value = float(values.mean())
    sums = effective.per_cluster(values - value, cluster)
    clusters = len(sums)
    if clusters < 2:
        return value, float("inf"), clusters
    error = np.sqrt(clusters / (clusters - 1) * (sums**2).sum()) / len(values)
    return value, float(error), clusters


def _by_t(
    value: float, error: float, freedom: float, n: int, clusters: int, level: float
) -> Estimate:
    if clusters < FEWEST:
        why = f"{NONE}{clusters} clusters, at least {FEWEST} needed"
        return Estimate(value, -np.inf, np.inf, n, why)
    reach = float(laws.t.ppf((1 + level) / 2, freedom)) * error
    return Estimate(value, value - reach, value + reach, n, "t on clusters")
