"""Estimates from one study's answers, by which claims are judged; or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from sm70lib.analysis import frames
from sm70lib.benchmarks.fields import LETTERS
from sm70lib.protocols import replies
from sm70lib.protocols.replies import NO_SCORE
from sm70lib.statistics import differences, verdicts
from sm70lib.statistics.stats import Estimate

CONSTANT = "no verdict: constant answers"


class Finding(NamedTuple):
    """An estimate, or the reason why there is no verdict.

    Attributes:
        estimate: shares; None where there is none.
        n: number of items.
        instead: what stands in place of a verdict; "" where a verdict can be given.
        why: the reason for `instead`.
    """

    estimate: Estimate | None
    n: int
    instead: str = ""
    why: str = ""

    @property
    def known(self) -> Estimate:
        """The estimate of a finding that has one.

        Raises:
            ValueError: if it has none.
        """
        if self.estimate is None:
            raise ValueError(f"there is no estimate: {self.instead}")
        return self.estimate


@dataclass(frozen=True)
class Answers:
    """The answers of one study (`frames.load`).

    Attributes:
        rows: one row per answer.
        level: two-sided level of the bounds (share); each bound may be used alone.
    """

    rows: pd.DataFrame
    level: float

    def run(self, model: str, benchmark: str, protocol: str, shots: int) -> pd.DataFrame:
        """The answers of one model to a benchmark or aggregate; empty where it was not asked."""
        return frames.named(self._asked_of(model, protocol, shots), [benchmark])

    def pair(
        self, before: str, after: str, names: list[str], protocol: str, shots: int
    ) -> pd.DataFrame:
        """The items of `names` (`frames.named`) that both models answered (`frames.paired`)."""
        both = [self._asked_of(name, protocol, shots) for name in (before, after)]
        return frames.paired(frames.named(pd.concat(both), names), before, after)

    def _asked_of(self, model: str, protocol: str, shots: int) -> pd.DataFrame:
        """All answers of one model to prompts of one kind."""
        return self._groups.get((model, protocol, shots), self.rows.iloc[:0])

    @cached_property
    def _groups(self) -> dict[tuple, pd.DataFrame]:
        return dict(iter(self.rows.groupby(["model", "protocol", "shots"])))

    def accuracy(self, part: pd.DataFrame) -> Finding:
        """The share of right answers of a `run`; of a macro aggregate, the mean over members."""
        unread = replies.unscored(int(part["choice"].isna().sum()), len(part))
        if unread:
            return Finding(None, part["item_id"].nunique(), NO_SCORE, _bare(unread))
        correct, cluster, weight = frames.scored(part)
        estimate = verdicts.accuracy(correct, cluster, self.level, weight)
        why = constant(part)
        return Finding(estimate, estimate.n, CONSTANT if why else "", why)

    def difference(self, both: pd.DataFrame, before: str, after: str) -> Finding:
        """Accuracy of the second model minus that of the first, on a `pair`'s items."""
        n = both["item_id"].nunique()
        unread = frames.unread(both, before, after)
        if unread:
            return Finding(None, n, NO_SCORE, _bare(unread))
        items = frames.by_item(both, ["correct_a", "correct_b"])
        estimate = differences.difference(
            items["correct_a"], items["correct_b"], items["cluster"], self.level
        )
        habits = [(name, constant(self._asked(both, name))) for name in (before, after)]
        why = "; ".join(f"{name}: {habit}" for name, habit in habits if habit)
        return Finding(estimate, n, CONSTANT if why else "", why)

    def _asked(self, both: pd.DataFrame, model: str) -> pd.DataFrame:
        """The answers of one model to the items of a `pair`."""
        protocol, shots = both.iloc[0][["protocol", "shots"]]
        rows = frames.named(self._asked_of(model, protocol, shots), both["benchmark"].unique())
        return rows[rows["item_id"].isin(both["item_id"])]


def constant(part: pd.DataFrame) -> str:
    """In words, that nearly all answers are the same letter (`frames.habit`); "" if they are not.

    It adds the rank of the right option by log-likelihood, which may still carry knowledge.
    """
    habit = frames.habit(part)
    if habit is None:
        return ""
    place, share, read = habit
    words = {item.options[place] for item in read["item"] if place < len(item.options)}
    # A word such as "yes" if it is the same in all items, else the letter
    name = words.pop() if len(words) == 1 else LETTERS[place]
    said = f"{share:.0%} of its answers are {name}"
    rank = verdicts.mean_rank(read["loglikelihoods"], read["gold"])
    if np.isnan(rank):  # it answered in words
        return said
    options = read["options"].mean()
    return f"{said}; the right option ranks {rank:.1f} of {options:.1f} on average"


def _bare(why: str) -> str:
    """The reason without "no score", which `instead` says already."""
    return why.removeprefix(f"{NO_SCORE}: ")
