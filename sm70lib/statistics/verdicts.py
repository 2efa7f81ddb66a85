"""Bounds that hold when used alone, and the verdicts that follow from them.

At a level of 95 %, the truth should lie below the lower bound in 2.5 % of samples, and above the
upper bound in 2.5 %. In the simulations of `python -m tests.simulated` neither happens in more
than 4 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from scipy import stats as laws

from sm70lib.statistics import effective
from sm70lib.statistics.differences import difference
from sm70lib.statistics.stats import Estimate

Bounds = Callable[[float], Estimate]  # an estimate by the two-sided level (share) of its bounds
SUPPORTED, CONTRADICTED, OPEN = "supported", "contradicted", "undecidable at this n"
CONSTANT = 0.95  # a model is constant if its commonest letter has at least this share


def accuracy(correct, cluster, level: float = 0.95, weight=None) -> Estimate:
    """Accuracy with bounds that may each be used alone.

    For independent items, Clopper and Pearson's (1934, Biometrika 26:404). Where clusters repeat,
    the same at the effective n of each bound (Korn and Graubard 1998, Survey Methodology 24:193,
    with the added cluster of `effective.effective_n`).

    Args:
        correct: (n,) right or wrong; a mean of several draws of an item may lie between.
        cluster: (n,) what items have in common.
        level: two-sided level (share); each bound alone errs in (1 - level) / 2 of samples.
        weight: (n,) weights of a weighted mean, such as a macro average over parts.

    Returns:
        The accuracy of n items, with its bounds.
    """
    value, ends, n = effective.at_effective_n(correct, cluster, level, weight)
    if ends is None:
        return Estimate(value, 0.0, 1.0, n, "one cluster")
    name = "Clopper-Pearson" if ends == (n, n) else "Clopper-Pearson, effective n"
    low, high = (float(end) for end in exact_bounds(value, ends, level))
    return Estimate(value, low, high, n, name)


def exact_bounds(value, ends, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's bounds of a share.

    Args:
        value: (...) share of right answers.
        ends: the n (...) of the lower and of the upper bound; may be fractions.
        level: two-sided level (share).

    Returns:
        Lower and upper bounds (...).
    """
    value = np.asarray(value, float)
    below, above = ends
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):  # there is no beta law without successes, or failures
        low = laws.beta.ppf(tail, value * below, (1 - value) * below + 1)
        high = laws.beta.ppf(1 - tail, value * above + 1, (1 - value) * above)
    return np.where(value > 0, low, 0.0), np.where(value < 1, high, 1.0)


def judged(estimate: Estimate, reference: float = 0.0, sign: int = 1) -> str:
    """The verdict on the claim that sign x (estimate - reference) is above 0, by the bounds alone.

    Args:
        estimate: anything with a `low` and a `high`.
        reference: the value that it has to exceed, in the same unit.
        sign: 1 for "above", -1 for "below".

    Returns:
        SUPPORTED, CONTRADICTED, or OPEN where the reference lies within the bounds.
    """
    low, high = sorted(sign * (end - reference) for end in (estimate.low, estimate.high))
    if low > 0:
        return SUPPORTED
    return CONTRADICTED if high < 0 else OPEN


def conjunction(parts: Iterable[str]) -> str:
    """The verdict on a claim of several parts, each judged by its own one-sided bound.

    SUPPORTED needs no correction: the whole is wrongly supported only if a part is (Berger 1982,
    Technometrics 24:295, the intersection-union test). CONTRADICTED has none: with k true parts it
    is wrong up to k times as often as one bound.

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

    Args:
        pairs: `a`, `b` and `cluster` of each comparison, as `difference` takes them. None where a
            declared comparison has no score; it still counts among them.
        level: two-sided level of the family (share).

    Returns:
        The difference of each pair and the level of its bounds; None where it has no score.
    """
    claims = [None if pair is None else (partial(difference, *pair), 0.0) for pair in pairs]
    return holm(claims, level)


def holm(
    claims: Sequence[tuple[Bounds, float] | None], level: float = 0.95
) -> list[tuple[Estimate, float] | None]:
    """Estimates of one declared family of any kind, with bounds at Holm's level.

    All k estimates start at the level 1 - (1 - level) / k. One whose bounds exclude its reference
    value keeps that level and leaves the family. The others are computed again with the smaller k,
    until none leaves (Holm 1979, Scand. J. Statist. 6:65, by bounds instead of p). The chance that
    any of them is wrongly said to be above or below its reference value is at most 1 - level.

    Args:
        claims: of each claim its estimate by level, and the value that it must exceed; None where a
            declared claim has no estimate. It still counts among the k.
        level: two-sided level of the family (share).

    Returns:
        The estimate of each claim and the level of its bounds; None where there is none.
    """
    results: list[tuple[Estimate, float] | None] = [None] * len(claims)
    left = {place: claim for place, claim in enumerate(claims) if claim is not None}
    lacking = len(claims) - len(left)
    while left:
        step = 1 - (1 - level) / (len(left) + lacking)
        decided = set()
        for place, (bounds, reference) in left.items():
            estimate = bounds(step)
            results[place] = estimate, step
            if judged(estimate, reference) != OPEN:
                decided.add(place)
        if not decided:
            break
        left = {place: claim for place, claim in left.items() if place not in decided}
    return results


def is_constant(choices) -> bool:
    """Whether at least 95 % of the answers are the same letter: such a model gets no verdict.

    Args:
        choices: the position of the chosen option in each answer; unread answers (missing) are
            not counted.
    """
    # A missing choice is None or NaN, and NaN is not equal to itself
    read = [choice for choice in choices if choice is not None and choice == choice]
    if not read:
        return False
    return max(map(read.count, set(read))) >= CONSTANT * len(read)


def mean_rank(scores: Iterable, gold: Iterable[int]) -> float:
    """Mean rank of the right option by log-likelihood, which shows what a constant model knows.

    Args:
        scores: the options' log-likelihoods (nats) of each answer; answers without any are skipped.
        gold: the position of the right option in each.

    Returns:
        1 where the right option is always the likeliest, (options + 1) / 2 by chance; NaN where no
        answer has log-likelihoods. Ties share their ranks.
    """
    scored = [
        (options, int(right))
        for options, right in zip(scores, gold)
        if isinstance(options, (list, tuple, np.ndarray)) and len(options) > right
    ]
    ranks: np.ndarray = np.empty(len(scored))
    sizes = np.array([len(options) for options, _ in scored], int)
    for size in np.unique(sizes):  # one by one, a million answers take six seconds
        places = np.flatnonzero(sizes == size)
        rows = np.array([scored[place][0] for place in places], float)
        of_right = rows[np.arange(len(rows)), [scored[place][1] for place in places]][:, None]
        ranks[places] = 0.5 + (rows > of_right).sum(axis=1) + (rows == of_right).sum(axis=1) / 2
    return float(ranks.mean()) if len(scored) else float("nan")
