"""How many independent items a set of clustered items is worth."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import stats as laws


def at_effective_n(
    correct, cluster, level, weight=None
) -> tuple[float, tuple[float, float] | None, int]:
    """The accuracy, the effective n of each bound, and the number of items.

    Args:
        correct: (n,) right or wrong; a mean of several draws of an item may lie between.
        cluster: (n,) what items have in common.
        level: two-sided level of the interval (share).
        weight: (n,) weights of a weighted mean; None for a plain mean.

    Returns:
        The accuracy (share), the effective n of its lower and its upper bound, and n. A single
        cluster of several items has no effective n: None.
    """
    correct = np.asarray(correct, float)
    n = len(correct)
    if weight is None and independent(cluster):
        return float(correct.mean()), (n, n), n
    weight = np.ones(n) if weight is None else np.asarray(weight, float)
    weight = weight * weight.sum() / (weight**2).sum()  # their sum is now Kish's effective n
    value = float(np.average(correct, weights=weight))
    heavy = weight.max() / weight.mean()
    sums = per_cluster(weight * correct, cluster)
    sizes = per_cluster(weight, cluster)
    if len(sums) < 2:
        return value, None, n
    below, above = (effective_n(sums, sums.sum(), sizes, level, added, heavy) for added in (0, 1))
    return value, (float(below), float(above)), n


def effective_n(sums, squares, sizes, level, added, heavy=1.0):
    """How many independent items tell as much as these clusters: n over the design effect.

    The design effect is the variance of the mean over clusters divided by that of as many
    independent items, at least 1 (Kish 1965, Survey Sampling). It is multiplied by (t/z)^2
    with clusters - 1 degrees of freedom (Korn and Graubard 1998, Survey Methodology 24:193).

    A few wrong answers say almost nothing about how wrong answers cluster. If a small cluster
    happens to hold the only one, the clusters alone give an effective n as large as n, and the
    bound then missed the truth in up to 6 % of draws where 2.5 % were meant. We therefore add one
    more cluster of mean size whose answers all count against the bound. Where all answers agree,
    the effective n is then the number of clusters, times (z/t)^2.

    Args:
        sums: (..., clusters) sum of the items' values in each cluster.
        squares: (...) sum of the items' squared values.
        sizes: (..., clusters) items, or the sum of their weights.
        level: two-sided level of the interval (share).
        added: value of the items of the added cluster, the worst value for this bound.
        heavy: weight of an added item, as a multiple of the mean weight.

    Returns:
        (...) the effective n, never above the sum of `sizes`.
    """
    sums, sizes = np.asarray(sums, float), np.asarray(sizes, float)
    clusters, n = sizes.shape[-1], sizes.sum(-1)
    more = heavy * n / clusters
    total = n + more
    mean = (sums.sum(-1) + added * more) / total
    spread = ((sums - mean[..., None] * sizes) ** 2).sum(-1) + ((added - mean) * more) ** 2
    alone = (squares + added**2 * more) - total * mean**2
    agree = alone <= 1e-9 * n  # all answers agree, the added ones too: there is no spread at all
    effect = np.where(agree, more, spread / np.where(agree, 1, alone))
    return n / np.maximum(1, effect) * _normal_over_t(level, clusters) ** 2


@cache
def _normal_over_t(level: float, clusters: int) -> float:
    """Two-sided normal quantile divided by that of t with clusters - 1 degrees of freedom."""
    share = (1 + level) / 2
    return float(laws.norm.ppf(share) / laws.t.ppf(share, clusters - 1))


def independent(cluster) -> bool:
    """Whether no two items share a cluster."""
    return len(set(cluster)) == len(cluster)


def per_cluster(values, cluster) -> np.ndarray:
    """The sum of the values (n,) in each cluster (clusters,)."""
    _, index = np.unique(np.asarray(cluster, str), return_inverse=True)
    return np.bincount(index, np.asarray(values, float))
