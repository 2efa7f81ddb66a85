"""Intervals for display and tests for accuracies; what a verdict needs stands in `verdicts`.

Items that share a `cluster` (several questions about one condition) are not independent. Where
clusters repeat, every interval is computed at the effective n; where none does, at n itself.
"""

from __future__ import annotations

from functools import cache
from math import hypot
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

FLOOR = 0.001  # a p below it is printed as "< 0.001"


class How(NamedTuple):
    """How uncertainty is computed: level of the intervals, sign-flip resamples, their seed."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


class Estimate(NamedTuple):
    """A share (0 to 1) or a difference of shares (-1 to 1) with its interval; `n` counts items."""

    value: float
    low: float
    high: float
    n: int
    method: str

    def row(self, name: str = "acc_pct", unit: str = "pct") -> dict:
        """The estimate as table cells, in percent or points with one decimal."""
        value, low, high = (round(100 * x, 1) + 0.0 for x in self[:3])
        return {
            "n": self.n,
            name: value,
            f"low_{unit}": low,
            f"high_{unit}": high,
            "interval": self.method,
        }


def wilson(correct: float, n: float, level: float = 0.95) -> Estimate:
    """Wilson's score interval of `correct` out of `n` independent items.

    Args:
        correct: right answers; a fraction where n is an effective one.
        n: items.
        level: level of the interval (share).

    Returns:
        The accuracy with its interval (Wilson 1927, JASA 22:209).
    """
    low, high = proportion_confint(correct, n, alpha=1 - level, method="wilson")
    return Estimate(correct / n, float(low), float(high), n, "Wilson")


def rate(correct, cluster, how: How = How(), weight=None) -> Estimate:
    """Accuracy with Wilson's interval, for display; at the effective n where clusters repeat.

    Args:
        correct: (n,) right or wrong; a mean of several draws of an item may lie between.
        cluster: (n,) what items have in common.
        how: level of the interval.
        weight: (n,) makes it a weighted mean, such as a macro average over parts.

    Returns:
        The accuracy of n items. Each end has an effective n of its own (`effective_n`).
    """
    value, ends, n = at_effective_n(correct, cluster, how.level, weight)
    if ends is None:
        return Estimate(value, 0.0, 1.0, n, "one cluster")
    low, high = (wilson(value * end, end, how.level) for end in ends)
    name = "Wilson" if ends == (n, n) else "Wilson, effective n"
    return Estimate(value, low.low, high.high, n, name)


def at_effective_n(correct, cluster, level, weight=None) -> tuple:
    """The accuracy, the effective n for its lower and its upper bound, and n.

    There is no effective n (None) of a single cluster that holds several items.
    """
    correct = np.asarray(correct, float)
    n, alone = len(correct), independent(cluster)
    if weight is None and alone:
        return float(correct.mean()), (n, n), n
    weight = np.ones(n) if weight is None else np.asarray(weight, float)
    weight = weight * weight.sum() / (weight**2).sum()  # their sum is now Kish's effective n
    value, heavy = float(np.average(correct, weights=weight)), weight.max() / weight.mean()
    sums, sizes = per_cluster(weight * correct, cluster), per_cluster(weight, cluster)
    if len(sums) < 2:
        return value, None, n
    ends = (effective_n(sums, sums.sum(), sizes, level, added, heavy) for added in (0, 1))
    return value, tuple(map(float, ends)), n


def effective_n(sums, squares, sizes, level, added, heavy=1.0):
    """How many independent items tell as much as these clusters: n over the design effect.

    The design effect is the variance of the mean over clusters divided by that of as many
    independent items, at least 1 (Kish 1965, Survey Sampling). It is multiplied by (t/z)^2
    with clusters - 1 degrees of freedom (Korn and Graubard 1998, Survey Methodology 24:193).

    Few wrong answers say next to nothing about how they cluster, and a small cluster that happens
    to hold the only one would make the effective n as large as n: estimated from the clusters
    alone, the bound missed the truth in up to 6 % of draws where 2.5 % were meant. So one more
    cluster of mean size is counted in, whose answers all stand against the bound. Where all
    answers agree, the effective n is then the number of clusters, times (z/t)^2.

    Args:
        sums: (..., clusters) sum of the items' values in each cluster.
        squares: (...) sum of the items' squared values.
        sizes: (..., clusters) items, or the sum of their weights.
        level: two-sided level of the interval (share).
        added: value of the items of the added cluster: the one that the bound has to fear.
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
    agree = alone <= 1e-9 * n  # the added ones too: nothing is spread, over clusters or items
    effect = np.where(agree, more, spread / np.where(agree, 1, alone))
    return n / np.maximum(1, effect) * _normal_over_t(level, clusters) ** 2


@cache
def _normal_over_t(level: float, clusters: int) -> float:
    """Two-sided quantile of the normal law over that of t with clusters - 1 degrees of freedom."""
    share = (1 + level) / 2
    return float(stats.norm.ppf(share) / stats.t.ppf(share, clusters - 1))


def paired_test(a, b, cluster, how: How = How()) -> tuple[float, str]:
    """Two-sided test of "both models are equally accurate" on the same items.

    Independent items: exact McNemar (1947, Psychometrika 12:153). Otherwise the sign of each
    cluster's difference is flipped, all ways or in `how.resamples` drawn ones, which keeps
    clusters whole; its p is never below 2 / (resamples + 1).

    Args:
        a: (n,) right or wrong, of the first model.
        b: (n,) of the second.
        cluster: (n,) what items have in common.
        how: resamples and their seed.

    Returns:
        p, never 0, and the name of the test.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if independent(cluster):
        table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
        p = float(mcnemar(table, exact=True).pvalue)
        return max(p, np.finfo(float).tiny), "exact McNemar"
    gains = per_cluster(b.astype(float) - a, cluster)
    gains = gains[gains != 0]  # a zero stays zero under any flip
    if len(gains) < 2:
        return 1.0, "cluster sign-flip"
    test = stats.permutation_test(
        (gains,),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=how.resamples,
        batch=500,
        rng=how.seed,
    )
    return float(test.pvalue), "cluster sign-flip"


def p_text(p: float) -> str:
    """A p-value as it is printed: "< 0.001" below that, else three digits; "" if there is none."""
    if np.isnan(p):
        return ""
    return f"< {FLOOR}" if p < FLOOR else f"{p:.3g}"


def holm(p_values) -> np.ndarray:
    """p-values (k,) of one family, adjusted for k tests (Holm 1979, Scand. J. Statist. 6:65)."""
    return multipletests(p_values, method="holm")[1]


def detectable(a, b, cluster, how: How = How(), power: float = 0.8) -> float:
    """Smallest difference that these items show with `power`, by the bounds of `verdicts`.

    M x SE with M = z_(level) + z_(power), 2.8 at 95 % and 80 % (Bloom 1995, Evaluation Review
    19:547). SE is that of the paired difference (Miller 2024, arXiv 2411.00640) at the effective
    n, and one answer more goes to the correction for continuity (`verdicts.difference`).

    Args:
        a: (n,) right or wrong, of the first model.
        b: (n,) of the second.
        cluster: (n,) what items have in common.
        how: level of the interval.
        power: wanted chance that the bound excludes 0 (share).

    Returns:
        A difference of accuracies (share). It is never below M^2 / n, which flips in one direction
        alone would need: a share d of n items flipped has an SE of sqrt(d / n).
    """
    gain = np.asarray(b, float) - np.asarray(a, float)
    n, squares = len(gain), (gain**2).sum()
    enough = n
    if not independent(cluster):
        sums, sizes = per_cluster(gain, cluster), per_cluster(np.ones(n), cluster)
        if len(sums) < 2:
            return 1.0
        enough = min(effective_n(sums, squares, sizes, how.level, end) for end in (-1, 1))
    multiple = stats.norm.ppf((1 + how.level) / 2) + stats.norm.ppf(power)
    error = np.sqrt((squares / n - gain.mean() ** 2) / enough)
    return float(min(1.0, max(multiple * error, multiple**2 / enough) + 1 / n))


def minus(first: Estimate, second: Estimate) -> Estimate:
    """`first` minus `second`, from different items (or another's unknown answers).

    Square-and-add (Newcombe 1998, Stat. Med. 17:873, method 10, if both are Wilson's; Zou and
    Donner 2008, Stat. Med. 27:1693, for any). Clusters that stand on both sides make it slightly
    too wide.
    """
    value = first.value - second.value
    low = value - hypot(first.value - first.low, second.high - second.value)
    high = value + hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, first.n + second.n, "square-and-add")


def independent(cluster) -> bool:
    """Whether no two items share a cluster."""
    return len(set(cluster)) == len(cluster)


def per_cluster(values, cluster) -> np.ndarray:
    """The sum of the values (n,) in each cluster (clusters,)."""
    _, index = np.unique(np.asarray(cluster, str), return_inverse=True)
    return np.bincount(index, np.asarray(values, float))
