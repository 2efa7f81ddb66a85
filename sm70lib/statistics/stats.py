"""Intervals for display, and tests, of accuracies. The bounds for verdicts are in `verdicts`.

Items that share a `cluster` (several questions about one condition) are not independent. Where
clusters repeat, every interval is computed at the effective n; where none repeats, at n itself.
"""

from __future__ import annotations

from math import hypot
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from sm70lib.statistics.effective import at_effective_n, effective_n, independent, per_cluster

FLOOR = 0.001  # a p below it is printed as "< 0.001"
POWER = 0.8  # the wanted chance that a bound excludes 0


class How(NamedTuple):
    """How uncertainty is computed.

    Attributes:
        level: level of the intervals (share).
        resamples: how many sign flips a clustered test draws.
        seed: seed of these draws.
    """

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
        # Adding 0.0 turns -0.0 into 0.0
        value, low, high = (round(100 * share, 1) + 0.0 for share in self[:3])
        return {
            "n": self.n,
            name: value,
            f"low_{unit}": low,
            f"high_{unit}": high,
            "interval": self.method,
        }


def _wilson_bounds(correct: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's score bounds (1927, JASA 22:209).

    `n` may be an effective n; then both numbers are fractions.
    """
    low, high = proportion_confint(correct, n, alpha=1 - level, method="wilson")
    return float(low), float(high)


def rate(correct, cluster, how: How = How(), weight=None) -> Estimate:
    """Accuracy with Wilson's interval, for display; at the effective n where clusters repeat.

    Args:
        correct: (n,) right or wrong; a mean of several draws of an item may lie between.
        cluster: (n,) what items have in common.
        how: level of the interval.
        weight: (n,) weights of a weighted mean, such as a macro average over parts.

    Returns:
        The accuracy of n items. Each bound has its own effective n (`effective_n`).
    """
    value, ends, n = at_effective_n(correct, cluster, how.level, weight)
    if ends is None:
        return Estimate(value, 0.0, 1.0, n, "one cluster")
    below, above = ends
    low, _ = _wilson_bounds(value * below, below, how.level)
    _, high = _wilson_bounds(value * above, above, how.level)
    name = "Wilson" if ends == (n, n) else "Wilson, effective n"
    return Estimate(value, low, high, n, name)


def paired_test(a, b, cluster, how: How = How()) -> tuple[float, str]:
    """Two-sided test of "both models are equally accurate" on the same items.

    Independent items: exact McNemar (1947, Psychometrika 12:153). Otherwise a permutation test
    flips the sign of each cluster's difference, which keeps clusters whole: in all possible ways,
    or in `how.resamples` random ones. Its p is never below 2 / (resamples + 1).

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
        first_right = [int(np.sum(a & b)), int(np.sum(a & ~b))]
        first_wrong = [int(np.sum(~a & b)), int(np.sum(~a & ~b))]
        table = [first_right, first_wrong]
        p = float(mcnemar(table, exact=True).pvalue)
        return max(p, float(np.finfo(float).tiny)), "exact McNemar"
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
    """A p-value as it is printed: three digits, "< 0.001" for less, "" if there is none."""
    if np.isnan(p):
        return ""
    return f"< {FLOOR}" if p < FLOOR else f"{p:.3g}"


def holm(p_values) -> np.ndarray:
    """p-values (k,) of one family, adjusted for k tests (Holm 1979, Scand. J. Statist. 6:65)."""
    return multipletests(p_values, method="holm")[1]


def detectable(a, b, cluster, how: How = How()) -> float:
    """The smallest difference that these items show with POWER, by the bounds of `verdicts`.

    M x SE with M = z_(level) + z_(POWER), 2.8 at 95 % and 80 % (Bloom 1995, Evaluation Review
    19:547). SE is that of the paired difference (Miller 2024, arXiv 2411.00640) at the effective
    n. The correction for continuity costs one more answer (`differences.difference`).

    Args:
        a: (n,) right or wrong, of the first model.
        b: (n,) of the second.
        cluster: (n,) what items have in common.
        how: level of the interval.

    Returns:
        A difference of accuracies (share). It is never below M^2 / n, which is needed even if all
        flips go one way: if a share d of n items flips, the SE is sqrt(d / n).
    """
    gain = np.asarray(b, float) - np.asarray(a, float)
    n = len(gain)
    squares = (gain**2).sum()
    worth = n  # independent items
    if not independent(cluster):
        sums, sizes = per_cluster(gain, cluster), per_cluster(np.ones(n), cluster)
        if len(sums) < 2:
            return 1.0
        worth = min(effective_n(sums, squares, sizes, how.level, end) for end in (-1, 1))
    multiple = stats.norm.ppf((1 + how.level) / 2) + stats.norm.ppf(POWER)
    error = np.sqrt((squares / n - gain.mean() ** 2) / worth)
    smallest = max(multiple * error, multiple**2 / worth) + 1 / n
    return float(min(1.0, smallest))


def minus(first: Estimate, second: Estimate) -> Estimate:
    """`first` minus `second`, from different items (or where the answers of one are unknown).

    Square-and-add (Newcombe 1998, Stat. Med. 17:873, method 10, if both are Wilson's; Zou and
    Donner 2008, Stat. Med. 27:1693, for any). Clusters that occur on both sides make the interval
    slightly too wide.
    """
    value = first.value - second.value
    low = value - hypot(first.value - first.low, second.high - second.value)
    high = value + hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, first.n + second.n, "square-and-add")
