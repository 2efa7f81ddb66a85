"""Preference accuracy: how often a model finds the better of two answers likelier per token."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis.frames import RUN
from sm70lib.asking.asked_items import of_items
from sm70lib.benchmarks import Item
from sm70lib.benchmarks.preferences import like_length
from sm70lib.measures import rights
from sm70lib.statistics import differences
from sm70lib.statistics.verdicts import Bounds


def shorter_is_right(item: Item) -> float:
    """What the rule "the shorter answer is better" scores on a pair: 0, 1, or half for a tie."""
    lengths = [len(option) for option in item.options]
    right, wrong = lengths[item.answer], lengths[1 - item.answer]
    return 0.5 if right == wrong else float(right < wrong)


def more_often_at_like_length(pairs: list[pd.DataFrame]) -> Bounds | None:
    """How much more often one model prefers the better of two answers of like length than another.

    Args:
        pairs: answers of both models to the same pairs; columns of the other model end in _b.

    Returns:
        The difference by the level of its bounds; None without such pairs.
    """
    pair = pd.concat(pairs)
    alike = pair[[like_length(item) for item in pair["item"]]]
    return None if alike.empty else rights.more_often([alike])


def over_the_shorter(pairs: list[pd.DataFrame]) -> Bounds:
    """How much more often a model prefers the better answer than the rule "take the shorter"."""
    pair = pd.concat(pairs)
    rule = np.array([shorter_is_right(item) for item in pair["item"]])
    mine = pair["correct"].to_numpy(float)
    return lambda level: differences.difference(rule, mine, pair["cluster"], level)


def table(answers: pd.DataFrame) -> pd.DataFrame:
    """How often each model prefers the better of two answers, and by how much.

    Returns:
        One row per run on preference pairs: `n`, accuracy (percent) on all pairs and on those whose
        answers are of like length, that of the rule "the shorter answer" beside each, and the mean
        margin of the better answer (nats per token, `margin_nats`). Empty without such pairs.
    """
    rows = []
    pairs = answers[answers["benchmark"].isin(benchmarks.PAIRS)]
    for keys, run in pairs.groupby(RUN):
        alike = run[of_items(run["item"], like_length)]
        cells = {"n": len(run), **_shares(run, ""), "n_alike": len(alike)}
        cells |= _shares(alike, "_alike")
        scores = zip(run["loglikelihoods"], run["gold"])
        margins = [both[right] - both[1 - right] for both, right in scores]
        cells["margin_nats"] = round(float(np.mean(margins)), 3)
        rows.append(dict(zip(RUN, keys)) | cells)
    return pd.DataFrame(rows)


def _shares(part: pd.DataFrame, suffix: str) -> dict[str, float]:
    """Accuracy of a model and of the rule "the shorter answer" on the same pairs (percent)."""
    rule = of_items(part["item"], shorter_is_right)
    shares = {"acc": part["correct"].mean(), "shorter": np.mean(rule) if rule else np.nan}
    return {f"{name}{suffix}_pct": round(100 * share, 1) for name, share in shares.items()}
