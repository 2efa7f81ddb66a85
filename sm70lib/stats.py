"""Intervals and tests for accuracies: every number in a table goes through here.

Items that share a `cluster` (several questions about one condition, several draws of one item) are not
independent. Where clusters repeat, whole clusters are resampled; where none does, the exact methods apply.
"""

from __future__ import annotations

from math import hypot
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint


class How(NamedTuple):
    """How uncertainty is computed: level of the intervals, resamples, seed of the resampling."""

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
        return {"n": self.n, name: value, f"low_{unit}": low, f"high_{unit}": high, "interval": self.method}


def wilson(correct: float, n: int, level: float = 0.95) -> Estimate:
    """Wilson's score interval of `correct` out of `n` independent items (Wilson 1927, JASA 22:209)."""
    low, high = proportion_confint(correct, n, alpha=1 - level, method="wilson")
    return Estimate(correct / n, float(low), float(high), n, "Wilson")


def rate(correct, cluster, how: How = How(), weight=None) -> Estimate:
    """Accuracy of `correct` (n,) booleans: Wilson, or the cluster bootstrap where `cluster` (n,) repeats.

    `weight` (n,) turns it into a weighted mean (a macro average over parts), always by the bootstrap.
    """
    if weight is None and _independent(cluster):
        return wilson(float(np.sum(correct)), len(correct), how.level)
    return _bootstrap(correct, cluster, how, weight, bounds=(0, 1))


def difference(a, b, cluster, how: How = How()) -> Estimate:
    """Accuracy of `b` minus accuracy of `a` on the same items, by the bootstrap over clusters of items."""
    return _bootstrap(np.asarray(b, float) - np.asarray(a, float), cluster, how, None, bounds=(-1, 1))


def paired_test(a, b, cluster, how: How = How()) -> tuple[float, str]:
    """Two-sided p of "both models are equally accurate" on the same items, and the name of the test.

    Independent items: exact McNemar (1947, Psychometrika 12:153). Otherwise the sign of each cluster's
    difference is flipped, all ways or `how.resamples` drawn ones, which keeps clusters whole.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if _independent(cluster):
        table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
        return float(mcnemar(table, exact=True).pvalue), "exact McNemar"
    gains, _ = _sums(b.astype(float) - a, cluster)
    gains = gains[gains != 0]  # a zero stays zero under any flip
    if len(gains) < 2:
        return 1.0, "cluster sign-flip"
    test = stats.permutation_test((gains,), lambda x, axis: x.sum(axis), permutation_type="samples",
                                  vectorized=True, n_resamples=how.resamples, batch=500, rng=how.seed)
    return float(test.pvalue), "cluster sign-flip"


def holm(p_values) -> np.ndarray:
    """p-values (k,) of one family, adjusted for k tests (Holm 1979, Scand. J. Statist. 6:65)."""
    return multipletests(p_values, method="holm")[1]


def detectable(a, b, cluster, how: How = How(), power: float = 0.8) -> float:
    """Smallest difference of accuracies that these items show with `power` in a two-sided test.

    M x SE with M = z_(level) + z_(power), 2.8 at 95 % and 80 % (Bloom 1995, Evaluation Review 19:547); SE is
    that of the paired difference over clusters (Miller 2024, arXiv 2411.00640). Never below M^2/n, which
    flips in one direction alone would need: a share d of n items flipped has an SE of sqrt(d/n).
    """
    gain = np.asarray(b, float) - np.asarray(a, float)
    sums, _ = _sums(gain - gain.mean(), cluster)
    multiple = stats.norm.ppf((1 + how.level) / 2) + stats.norm.ppf(power)
    error = np.sqrt((sums ** 2).sum() * len(sums) / max(len(sums) - 1, 1)) / len(gain)
    return float(min(1.0, max(multiple * error, multiple ** 2 / len(gain))))


def minus(first: Estimate, second: Estimate) -> Estimate:
    """`first` minus `second`, from different items (or another's unknown answers), each with its interval.

    Square-and-add (Newcombe 1998, Stat. Med. 17:873, method 10, if both are Wilson's; Zou and Donner 2008,
    Stat. Med. 27:1693, for any). Clusters that stand on both sides make it slightly too wide.
    """
    value = first.value - second.value
    low = value - hypot(first.value - first.low, second.high - second.value)
    high = value + hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, first.n + second.n, "square-and-add")


def gain_difference(a, b, cluster, flagged, how: How = How()) -> tuple[Estimate, Estimate, Estimate]:
    """(b - a) on flagged items, (b - a) on clean ones, and their difference: what a leak is worth."""
    a, b, cluster, flagged = np.asarray(a), np.asarray(b), np.asarray(cluster), np.asarray(flagged, bool)
    leaked, clean = (difference(a[part], b[part], cluster[part], how) for part in (flagged, ~flagged))
    return leaked, clean, minus(leaked, clean)


def _independent(cluster) -> bool:
    return len(set(cluster)) == len(cluster)


def _sums(values, cluster, weight=None) -> tuple[np.ndarray, np.ndarray]:
    """Of each cluster: the weighted sum of its values, and the sum of its weights (clusters,)."""
    weight = np.ones(len(values)) if weight is None else np.asarray(weight, float)
    _, index = np.unique(np.asarray(cluster, str), return_inverse=True)
    return np.bincount(index, weight * np.asarray(values, float)), np.bincount(index, weight)


def _bootstrap(values, cluster, how: How, weight, bounds) -> Estimate:
    sums, sizes = _sums(values, cluster, weight)
    value, name = sums.sum() / sizes.sum(), "bootstrap" if _independent(cluster) else "cluster bootstrap"
    if len(sums) < 2 or np.ptp(sums / sizes) == 0:
        # Resampling equal clusters gives width zero, which no finite sample deserves: Wilson's bound for
        # none of `clusters` says how far the truth may be.
        slack, name = wilson(0, len(sums), how.level).high, "Wilson over clusters"
        low, high = max(bounds[0], value - slack), min(bounds[1], value + slack)
    else:
        low, high = stats.bootstrap(
            (sums, sizes), lambda s, m, axis: s.sum(axis) / m.sum(axis), paired=True, vectorized=True,
            batch=500, n_resamples=how.resamples, confidence_level=how.level, method="percentile",
            rng=how.seed).confidence_interval
    return Estimate(float(value), float(low), float(high), len(values), name)
