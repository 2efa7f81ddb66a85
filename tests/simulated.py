"""How often does the truth lie beyond a bound? Simulated: `python -m tests.simulated`.

At a level of 95 %, each bound alone should be wrong in about 2.5 % of samples; `LIMIT` percent is
what is allowed. Prints one row per situation: how often the truth lay below the lower bound, how
often above the upper one (percent of draws), and the mean width of the interval (points). Exits
with 1 if a bound misses more often. About a minute of one core with 20,000 draws.
"""

import argparse
import sys
from itertools import product

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from sm70lib.statistics import differences, effective, spread, verdicts

LEVEL = 0.95
LIMIT = 4.0  # percent of draws
ICCS = (0, 0.1, 0.3, 0.6, 1)
SIZES = (1, 6)  # items in a cluster, drawn evenly
STEPS = (94, 109, 122)  # items of the three USMLE steps


def sizes(rng, draws: int, clusters: int) -> np.ndarray:
    """How many items each cluster holds (draws, clusters)."""
    return rng.integers(SIZES[0], SIZES[1] + 1, (draws, clusters))


def right(rng, size: np.ndarray, share: float, icc: float) -> np.ndarray:
    """Right answers in each cluster: beta-binomial, whose ICC is exact."""
    if icc == 0 or share in (0, 1):
        return rng.binomial(size, share)
    if icc == 1:
        return size * (rng.random(size.shape) < share)
    weight = (1 - icc) / icc
    return rng.binomial(size, rng.beta(share * weight, (1 - share) * weight, size.shape))


def flips(rng, size: np.ndarray, flipped: float, won: float, icc: float) -> tuple:
    """Gains and losses in each cluster, of a share `flipped` of items: Dirichlet-multinomial."""
    both = right(rng, size, flipped, icc)
    if icc in (0, 1) or won in (0, 1):
        gains = right(rng, both, won, icc)
    else:  # within a cluster's flips the split is beta-binomial too, with the Dirichlet's weights
        weight = (1 - icc) / icc * flipped
        chance = rng.beta(won * weight, (1 - won) * weight, size.shape)
        gains = rng.binomial(both, np.nan_to_num(chance, nan=won))
    return gains, both - gains


def row(what: str, setting: str, truth: float, low, high) -> dict:
    """One line of the table; a bound that only touches the truth is no miss."""
    near = 1e-9
    return {
        "what": what,
        "setting": setting,
        "below": 100 * float(np.mean(low > truth + near)),
        "above": 100 * float(np.mean(high < truth - near)),
        "width": 100 * float(np.mean(high - low)),
    }


def one_accuracy(draws: int, clusters: int, share: float, icc: float, seed: int = 0) -> list[dict]:
    """The bounds of `verdicts.accuracy`, and Wilson's for display, over clusters of 1 to 6."""
    rng = np.random.default_rng(seed)
    size = sizes(rng, draws, clusters)
    correct = right(rng, size, share, icc)
    value, sums = correct.sum(-1) / size.sum(-1), correct.sum(-1)
    ends = [effective.effective_n(correct, sums, size, LEVEL, added) for added in (0, 1)]
    setting = f"{clusters} clusters, accuracy {share:g}, ICC {icc:g}"
    shown = [proportion_confint(value * end, end, 1 - LEVEL, "wilson") for end in ends]
    return [
        row("accuracy", setting, share, *verdicts.exact_bounds(value, ends, LEVEL)),
        row("accuracy, for display", setting, share, shown[0][0], shown[1][1]),
    ]


def independent_accuracy(draws: int, n: int, share: float, seed: int = 0) -> list[dict]:
    """Clopper and Pearson's bounds of independent items."""
    value = np.random.default_rng(seed).binomial(n, share, draws) / n
    bounds = verdicts.exact_bounds(value, (n, n), LEVEL)
    return [row("accuracy, independent", f"n {n}, accuracy {share:g}", share, *bounds)]


def macro(draws: int, shares: tuple[float, ...], seed: int = 0) -> list[dict]:
    """The mean of three accuracies on independent items (USMLE over its steps)."""
    rng = np.random.default_rng(seed)
    weight = np.concatenate([np.full(n, 1 / n) for n in STEPS])
    weight = weight * weight.sum() / (weight**2).sum()
    correct = rng.random((draws, len(weight))) < np.repeat(shares, STEPS)
    value, sums = correct @ weight / weight.sum(), correct * weight
    heavy, sizes = weight.max() / weight.mean(), np.broadcast_to(weight, sums.shape)
    ends = [effective.effective_n(sums, sums.sum(-1), sizes, LEVEL, end, heavy) for end in (0, 1)]
    setting = "steps at " + ", ".join(f"{share:g}" for share in shares)
    bounds = verdicts.exact_bounds(value, ends, LEVEL)
    return [row("mean of three steps", setting, float(np.mean(shares)), *bounds)]


def pairs(draws: int, n: int, flipped: float, won: float, seed: int = 0) -> list[dict]:
    """Two models on independent items, of which a share `flipped` differs, `won` of it for b."""
    shares = [flipped * won, flipped * (1 - won), 1 - flipped]
    gains, losses, _ = np.random.default_rng(seed).multinomial(n, shares, draws).T
    bounds = differences.tango(gains, losses, (n, n), n, LEVEL)
    setting = f"n {n}, {flipped:.1%} flipped, {won:.0%} of them won"
    return [row("difference, independent", setting, flipped * (2 * won - 1), *bounds)]


def clustered_pairs(
    draws: int, clusters: int, flipped: float, won: float, icc: float, seed: int = 0
) -> list[dict]:
    """The same over clusters of 1 to 6."""
    rng = np.random.default_rng(seed)
    size = sizes(rng, draws, clusters)
    bounds = differences.clustered_difference(*flips(rng, size, flipped, won, icc), size, LEVEL)
    setting = f"{clusters} clusters, {flipped:.0%} flipped, {won:.0%} of them won, ICC {icc:g}"
    return [row("difference", setting, flipped * (2 * won - 1), *bounds)]


def unpaired(draws: int, ours: tuple[int, float], quoted: tuple[int, float], seed: int = 0):
    """Ours minus a quoted value, each with its n: square-and-add of exact bounds."""
    rng, parts = np.random.default_rng(seed), []
    for n, share in (ours, quoted):
        value = rng.binomial(n, share, draws) / n
        low, high = verdicts.exact_bounds(value, (n, n), LEVEL)
        parts.append((value, low, high))
    (a, a_low, a_high), (b, b_low, b_high) = parts
    low = a - b - np.hypot(a - a_low, b_high - b)
    high = a - b + np.hypot(a_high - a, b - b_low)
    setting = f"n {ours[0]} at {ours[1]:g}, n {quoted[0]} at {quoted[1]:g}"
    return [row("difference, unpaired", setting, ours[1] - quoted[1], low, high)]


def worlds(draws: int, k: int, sd: float = 0.07, seed: int = 0) -> list[dict]:
    """The mean of tuned - control over k worlds, whose SD is that of the tiny study's runs."""
    rng, truth = np.random.default_rng(seed), 0.4
    found = [spread.over_runs(some, LEVEL) for some in rng.normal(truth, sd, (draws // 4, k))]
    return [row("mean over worlds", f"{k} worlds", truth, *np.array(found)[:, 1:3].astype(float).T)]


def table(draws: int) -> pd.DataFrame:
    """All situations."""
    rows = []
    for clusters, share, icc in product((36, 48, 60), (0.5, 0.9, 0.93), ICCS):
        rows += one_accuracy(draws, clusters, share, icc)
    for n, share in product((99, 325, 1273), (0.5, 0.9, 0.99)):
        rows += independent_accuracy(draws, n, share)
    for shares in ((0.5, 0.5, 0.5), (0.9, 0.9, 0.9), (0.4, 0.6, 0.8), (0.99, 0.9, 0.8)):
        rows += macro(draws, shares)
    for n, flipped, won in product((100, 325, 1273), (0.005, 0.02, 0.1, 0.25, 0.5), (0.5, 0.9, 1)):
        rows += pairs(draws, n, flipped, won)
    for setting in product((20, 36, 60), (0.01, 0.03, 0.1, 0.3, 0.6), (0.5, 0.8, 1), ICCS):
        rows += clustered_pairs(draws, *setting)
    for n, share in product((325, 1273), (0.55, 0.9)):
        rows += unpaired(draws, (n, share), (1000, share + 0.05))
    for k in (3, 8):
        rows += worlds(draws, k)
    return pd.DataFrame(rows).round(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=20_000, help="samples of each situation")
    found = table(parser.parse_args().draws)
    print(found.to_string(index=False))
    worst = (
        found.groupby("what")[["below", "above"]]
        .max()
        .assign(situations=found.groupby("what").size())
    )
    print(f"\nThe worst of each, percent of draws (allowed: {LIMIT:g})\n{worst.to_string()}")
    return int(found[["below", "above"]].to_numpy().max() > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
