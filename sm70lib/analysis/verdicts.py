"""What may be said: bounds that hold when used alone, and the verdicts that follow from them.

At a level of 95 %, the truth is meant to lie below a lower bound in 2.5 % of samples, and above an
upper one as often; in no situation of `python -m tests.simulated` does it in more than 4 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats as laws

from sm70lib.analysis import stats
from sm70lib.analysis.stats import Estimate

SUPPORTED, CONTRADICTED, OPEN = "supported", "contradicted", "undecidable at this n"
FEWEST = 20  # clusters that a verdict on a clustered difference takes
NONE = "none: "  # begins the method of an interval that excludes nothing, and the reason follows
CONSTANT = 0.95  # share of the commonest letter from which on a model is constant
HALVINGS = 50  # of the range of a difference: its bound is then exact to 1e-15


# ---- one accuracy ------------------------------------------------------------------------------


def accuracy(correct, cluster, level: float = 0.95, weight=None) -> Estimate:
    """Accuracy with bounds that may each be used alone.

    Clopper and Pearson's (1934, Biometrika 26:404) for independent items; where clusters repeat,
    theirs at the effective n of each bound (Korn and Graubard 1998, Survey Methodology 24:193,
    with the added cluster of `stats.effective_n`).

    Args:
        correct: (n,) right or wrong; a mean of several draws of an item may lie between.
        cluster: (n,) what items have in common.
        level: two-sided level (share); each bound alone errs in (1 - level) / 2 of samples.
        weight: (n,) makes it a weighted mean, such as a macro average over parts.

    Returns:
        The accuracy of n items, with its bounds.
    """
    value, ends, n = stats.at_effective_n(correct, cluster, level, weight)
    if ends is None:
        return Estimate(value, 0.0, 1.0, n, "one cluster")
    name = "Clopper-Pearson" if ends == (n, n) else "Clopper-Pearson, effective n"
    low, high = (float(end) for end in exact_bounds(value, ends, level))
    return Estimate(value, low, high, n, name)


def exact_bounds(value, ends, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's bounds of a share.

    Args:
        value: (...) share of right answers.
        ends: the n (...) of the lower bound and that of the upper one; fractions are fine.
        level: two-sided level (share).

    Returns:
        Lower and upper bounds (...).
    """
    value, (below, above), tail = np.asarray(value, float), ends, (1 - level) / 2
    with np.errstate(invalid="ignore"):  # a beta distribution without successes, or failures
        low = laws.beta.ppf(tail, value * below, (1 - value) * below + 1)
        high = laws.beta.ppf(1 - tail, value * above + 1, (1 - value) * above)
    return np.where(value > 0, low, 0.0), np.where(value < 1, high, 1.0)


# ---- two models on the same items --------------------------------------------------------------


def difference(a, b, cluster, level: float = 0.95) -> Estimate:
    """Accuracy of `b` minus accuracy of `a` on the same items, with bounds to be used alone.

    Tango's score interval for paired proportions (1998, Stat. Med. 17:891) with a correction for
    continuity of one answer; where clusters repeat, at the effective n of each bound. (t on
    cluster sums missed the truth in up to 40 % of draws where models differ on 3 % of the items.)

    Args:
        a: (n,) right or wrong, of the first model; a mean of several draws may lie between.
        b: (n,) of the second.
        cluster: (n,) what items have in common.
        level: two-sided level (share).

    Returns:
        The difference on n items. Fewer than 20 clusters of several items exclude nothing: the
        bounds are then -1 and 1, and `method` says so.
    """
    gain = np.asarray(b, float) - np.asarray(a, float)
    n, gains, losses = len(gain), np.maximum(gain, 0), np.maximum(-gain, 0)
    value = float(gain.mean())
    if stats.independent(cluster):
        low, high = tango(gains.sum(), losses.sum(), (n, n), n, level)
        return Estimate(value, float(low), float(high), n, "Tango")
    sides = [stats.per_cluster(part, cluster) for part in (gains, losses, np.ones(n))]
    if (clusters := len(sides[0])) < FEWEST:
        why = f"{NONE}{clusters} clusters, at least {FEWEST} needed"
        return Estimate(value, -1.0, 1.0, n, why)
    low, high = clustered_difference(*sides, level)
    return Estimate(value, float(low), float(high), n, "Tango, effective n")


def clustered_difference(gains, losses, sizes, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the difference of two models from what each cluster holds.

    Args:
        gains: (..., clusters) items that only the second model got right.
        losses: (..., clusters) items that only the first one got right.
        sizes: (..., clusters) items.
        level: two-sided level (share).

    Returns:
        Lower and upper bounds (...).
    """
    won, lost = gains.sum(-1), losses.sum(-1)
    ends = [stats.effective_n(gains - losses, won + lost, sizes, level, added) for added in (-1, 1)]
    return tango(won, lost, ends, sizes.sum(-1), level)


def tango(won, lost, ends, n, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Tango's bounds with a correction for continuity, at the effective n of each bound.

    Without the correction the bound missed in up to 5.4 % of draws where nearly all flips go one
    way. One answer, as in Edwards' form of McNemar's test (1948, Psychometrika 13:185), also keeps
    0 inside wherever the exact McNemar test finds nothing.

    Args:
        won: (...) items that only the second model got right.
        lost: (...) items that only the first one got right.
        ends: the effective n (...) of the lower bound and that of the upper one.
        n: (...) items.
        level: two-sided level (share).

    Returns:
        Lower and upper bounds (...) of the difference.
    """
    below, above = (np.asarray(end, float) / n for end in ends)
    low = _tango_low(won * below, lost * below, n * below, below, level)
    return low, -_tango_low(lost * above, won * above, n * above, above, level)


def _tango_low(won, lost, n, correction, level: float) -> np.ndarray:
    """The smallest difference that the score test does not exclude, by halving the range."""
    z = laws.norm.ppf((1 + level) / 2)
    excluded, kept = -np.ones(np.shape(n)), (won - lost) / n
    for _ in range(HALVINGS):
        middle = (excluded + kept) / 2
        out = won - lost - n * middle - correction > z * _tango_error(won, lost, n, middle)
        excluded, kept = np.where(out, middle, excluded), np.where(out, kept, middle)
    return excluded


def _tango_error(won, lost, n, difference):
    """SD of won - lost where the truth is `difference` and the rest is likeliest (Tango, eq. 6)."""
    linear = (2 * n - won + lost) * difference - won - lost
    constant = -lost * difference * (1 - difference)
    share = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0)) - linear) / (4 * n)
    return np.sqrt(n * np.maximum(2 * share + difference * (1 - difference), 0))


def gain_difference(a, b, cluster, flagged, level: float = 0.95) -> tuple[Estimate, ...]:
    """What a leak is worth: how much more was gained on flagged items than on clean ones.

    Args:
        a: (n,) right or wrong before.
        b: (n,) right or wrong after.
        cluster: (n,) what items have in common.
        flagged: (n,) whether the item leaked.
        level: two-sided level (share).

    Returns:
        The difference on flagged items, that on clean ones, and the first minus the second.
    """
    a, b, cluster, flagged = map(np.asarray, (a, b, cluster, flagged))
    flagged = flagged.astype(bool)
    leaked, clean = (
        difference(a[part], b[part], cluster[part], level) for part in (flagged, ~flagged)
    )
    effect = stats.minus(leaked, clean)
    unknown = [part.method for part in (leaked, clean) if part.method.startswith(NONE)]
    return leaked, clean, effect._replace(method=unknown[0]) if unknown else effect


# ---- verdicts ----------------------------------------------------------------------------------


def judged(estimate: Estimate, reference: float = 0.0, sign: int = 1) -> str:
    """The verdict on the claim that sign x (estimate - reference) is above 0, by the bounds alone.

    Args:
        estimate: anything with a `low` and a `high`.
        reference: what it has to exceed, in the same unit.
        sign: 1 for "above", -1 for "below".

    Returns:
        SUPPORTED, CONTRADICTED, or OPEN where the reference lies within the bounds.
    """
    low, high = sorted(sign * (end - reference) for end in (estimate.low, estimate.high))
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else OPEN


def conjunction(parts: Iterable[str]) -> str:
    """The verdict on a claim of several parts, each judged by its own one-sided bound.

    No correction is due: the whole is wrongly supported only if a part is (Berger 1982,
    Technometrics 24:295, the intersection-union test).

    Args:
        parts: a verdict for each part.

    Returns:
        SUPPORTED if all are, CONTRADICTED if any is, else OPEN.
    """
    found = set(parts)
    if CONTRADICTED in found:
        return CONTRADICTED
    return SUPPORTED if found == {SUPPORTED} else OPEN


def family(
    pairs: Sequence[tuple | None], level: float = 0.95
) -> list[tuple[Estimate, float] | None]:
    """Differences of one declared family, with bounds at Holm's level.

    All begin at 1 - (1 - level) / k. Where a bound excludes 0 the difference keeps that level and
    leaves the family; the rest go on with the smaller k, until none leaves (Holm 1979, Scand. J.
    Statist. 6:65, by bounds instead of p). The chance that any is wrongly said to be above or
    below 0 is 1 - level at most.

    Args:
        pairs: `a`, `b` and `cluster` of each comparison, as `difference` takes them; None where a
            declared comparison has no score, which counts among the k all the same.
        level: two-sided level of the family (share).

    Returns:
        The difference of each pair and the level of its bounds; None where it has no score.
    """
    found: list[tuple[Estimate, float] | None] = [None] * len(pairs)
    left = set(range(len(pairs)))
    while left:
        own = 1 - (1 - level) / len(left)
        for place in left:
            pair = pairs[place]
            found[place] = pair and (difference(*pair, own), own)
        done = {place for place in left if found[place] and judged(found[place][0]) != OPEN}
        if not done:
            break
        left -= done
    return found


def is_constant(choices) -> bool:
    """Whether at least 95 % of the answers are the same letter: such a model gets no verdict.

    Args:
        choices: the position of the chosen option in each answer; unread ones (missing) are none.
    """
    read = [choice for choice in choices if choice is not None and choice == choice]
    return bool(read) and max(map(read.count, set(read))) >= CONSTANT * len(read)


def mean_rank(scores: Iterable, gold: Iterable[int]) -> float:
    """Mean rank of the right option by its log-likelihood: what a constant model may still know.

    Args:
        scores: the options' log-likelihoods (nats) of each answer; answers without any are skipped.
        gold: the position of the right option in each.

    Returns:
        1 where the right option is always the likeliest, (options + 1) / 2 by chance (ties share
        their ranks); not a number where no answer has log-likelihoods.
    """
    pairs = [
        (np.asarray(row, float), int(right))
        for row, right in zip(scores, gold)
        if isinstance(row, (list, tuple, np.ndarray)) and len(row) > right
    ]
    ranks = [0.5 + (row > row[right]).sum() + (row == row[right]).sum() / 2 for row, right in pairs]
    return float(np.mean(ranks)) if ranks else float("nan")


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
