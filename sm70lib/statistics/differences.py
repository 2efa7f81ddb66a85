"""Two models on the same items: bounds of their difference that hold when used alone."""

from __future__ import annotations

import numpy as np
from scipy import stats as laws

from sm70lib.statistics import effective, stats
from sm70lib.statistics.stats import Estimate

FEWEST = 20  # clusters needed for a verdict on a clustered difference
NONE = "none: "  # how `method` begins where an interval excludes nothing; the reason follows
HALVINGS = 50  # of the range of a difference: its bound is then exact to 1e-15


def difference(a, b, cluster, level: float = 0.95) -> Estimate:
    """Accuracy of `b` minus that of `a` on the same items, with bounds that hold when used alone.

    Tango's score interval for paired proportions (1998, Stat. Med. 17:891) with a correction for
    continuity of one answer; where clusters repeat, at the effective n of each bound. (t on
    cluster sums missed the truth in up to 40 % of draws where models differ on 3 % of the items.)

    Args:
        a: (n,) right or wrong, of the first model; a mean of several draws may lie between.
        b: (n,) of the second.
        cluster: (n,) what items have in common.
        level: two-sided level (share).

    Returns:
        The difference on n items. Where clusters repeat and there are fewer than 20 of them, the
        interval excludes nothing: the bounds are -1 and 1, and `method` says so.
    """
    gain = np.asarray(b, float) - np.asarray(a, float)
    n = len(gain)
    gains, losses = np.maximum(gain, 0), np.maximum(-gain, 0)
    value = float(gain.mean())
    if effective.independent(cluster):
        low, high = tango(gains.sum(), losses.sum(), (n, n), n, level)
        return Estimate(value, float(low), float(high), n, "Tango")
    sizes = effective.per_cluster(np.ones(n), cluster)
    clusters = len(sizes)
    if clusters < FEWEST:
        why = f"{NONE}{clusters} clusters, at least {FEWEST} needed"
        return Estimate(value, -1.0, 1.0, n, why)
    gained = effective.per_cluster(gains, cluster)
    lost = effective.per_cluster(losses, cluster)
    low, high = clustered_difference(gained, lost, sizes, level)
    return Estimate(value, float(low), float(high), n, "Tango, effective n")


def clustered_difference(gains, losses, sizes, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the difference of two models, from the counts in each cluster.

    Args:
        gains: (..., clusters) items that only the second model got right.
        losses: (..., clusters) items that only the first one got right.
        sizes: (..., clusters) items.
        level: two-sided level (share).

    Returns:
        Lower and upper bounds (...).
    """
    won, lost = gains.sum(-1), losses.sum(-1)
    sums, squares = gains - losses, won + lost
    ends = [effective.effective_n(sums, squares, sizes, level, added) for added in (-1, 1)]
    return tango(won, lost, ends, sizes.sum(-1), level)


def tango(won, lost, ends, n, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Tango's bounds with a correction for continuity, at the effective n of each bound.

    Without the correction the bound missed the truth in up to 5.4 % of draws where nearly all
    flips go one way. The correction is one answer, as in Edwards' form of McNemar's test (1948,
    Psychometrika 13:185). It also keeps 0 inside the bounds wherever the exact McNemar test finds
    no difference.

    Args:
        won: (...) items that only the second model got right.
        lost: (...) items that only the first one got right.
        ends: the effective n (...) of the lower and of the upper bound.
        n: (...) items.
        level: two-sided level (share).

    Returns:
        Lower and upper bounds (...) of the difference.
    """
    below, above = (np.asarray(end, float) / n for end in ends)
    low = _tango_low(won * below, lost * below, n * below, below, level)
    return low, -_tango_low(lost * above, won * above, n * above, above, level)


def _tango_low(won, lost, n, correction, level: float) -> np.ndarray:
    """The smallest difference that the score test does not exclude, found by bisection."""
    z = laws.norm.ppf((1 + level) / 2)
    excluded, kept = -np.ones(np.shape(n)), (won - lost) / n
    for _ in range(HALVINGS):
        middle = (excluded + kept) / 2
        distance = won - lost - n * middle - correction
        out = distance > z * _tango_error(won, lost, n, middle)
        excluded = np.where(out, middle, excluded)
        kept = np.where(out, kept, middle)
    return excluded


def _tango_error(won, lost, n, difference):
    """SD of won - lost at the likeliest shares whose difference is `difference` (Tango, eq. 6)."""
    linear = (2 * n - won + lost) * difference - won - lost
    constant = -lost * difference * (1 - difference)
    share = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0)) - linear) / (4 * n)
    return np.sqrt(n * np.maximum(2 * share + difference * (1 - difference), 0))


def gain_difference(a, b, cluster, flagged, level: float = 0.95) -> tuple[Estimate, ...]:
    """How much more was gained on flagged items than on clean ones: what a leak is worth.

    Args:
        a: (n,) right or wrong before.
        b: (n,) right or wrong after.
        cluster: (n,) what items have in common.
        flagged: (n,) whether the item leaked.
        level: two-sided level (share).

    Returns:
        The difference on flagged items, the difference on clean ones, and the first minus the
        second. Where one of them has no bounds, `method` of the last one says why.
    """
    a, b, cluster = np.asarray(a), np.asarray(b), np.asarray(cluster)
    flagged = np.asarray(flagged).astype(bool)
    leaked, clean = (
        difference(a[part], b[part], cluster[part], level) for part in (flagged, ~flagged)
    )
    effect = stats.minus(leaked, clean)
    for part in (leaked, clean):
        if part.method.startswith(NONE):
            return leaked, clean, effect._replace(method=part.method)
    return leaked, clean, effect
