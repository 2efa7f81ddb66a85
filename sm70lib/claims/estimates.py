"""What one study's answers say, as estimates that claims are judged by, or why they say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis import frames
from sm70lib.protocols import replies
from sm70lib.protocols.replies import LETTERS, NO_SCORE
from sm70lib.statistics import differences, verdicts
from sm70lib.statistics.stats import Estimate

CONSTANT = "no verdict: constant answers"
MACRO = "usmle_macro"  # the mean of the three steps, where `usmle` pools their items


class Finding(NamedTuple):
    """An estimate; or, in `instead`, what stands in place of a verdict, and `why`."""

    estimate: Estimate | None
    n: int
    instead: str = ""
    why: str = ""


@dataclass(frozen=True)
class Answers:
    """The answers of one study (`errors.frame`, and `tables.load` for usmle and usmle_macro).

    Attributes:
        rows: one row per answer.
        level: level of the bounds (share), two-sided; each bound may be used alone.
    """

    rows: pd.DataFrame
    level: float

    def run(self, model: str, benchmark: str, protocol: str, shots: int) -> pd.DataFrame:
        """The answers of one model to one benchmark; empty where it was not asked."""
        wanted = {"model": model, "benchmark": benchmark, "protocol": protocol, "shots": shots}
        return self.rows[(self.rows[list(wanted)] == list(wanted.values())).all(axis=1)]

    def pair(self, before: str, after: str, names: list[str], protocol: str, shots: int):
        """The items of the benchmarks `names` that both models answered (`errors.paired`)."""
        rows, asked = self.rows, (self.rows["protocol"] == protocol) & (self.rows["shots"] == shots)
        return frames.paired(rows[asked & rows["benchmark"].isin(names)], before, after)

    def accuracy(self, part: pd.DataFrame) -> Finding:
        """The share of right answers of a `run`; of usmle_macro the mean over its steps."""
        if why := replies.unscored(int(part["choice"].isna().sum()), len(part)):
            return Finding(None, part["item_id"].nunique(), NO_SCORE, _bare(why))
        correct, cluster, weight = frames.scored(part, (part["benchmark"] == MACRO).all())
        found = verdicts.accuracy(correct, cluster, self.level, weight)
        why = constant(part)
        return Finding(found, found.n, CONSTANT if why else "", why)

    def difference(self, both: pd.DataFrame, before: str, after: str) -> Finding:
        """Accuracy of the second model minus that of the first, on a `pair`'s items."""
        n = both["item_id"].nunique()
        if why := frames.unread(both, before, after):
            return Finding(None, n, NO_SCORE, _bare(why))
        items = frames.by_item(both, ["correct_a", "correct_b"])
        sides = items["correct_a"], items["correct_b"], items["cluster"]
        found = differences.difference(*sides, self.level)
        named = [(name, constant(self._asked(both, name))) for name in (before, after)]
        why = "; ".join(f"{name}: {said}" for name, said in named if said)
        return Finding(found, n, CONSTANT if why else "", why)

    def _asked(self, both: pd.DataFrame, model: str) -> pd.DataFrame:
        """The answers of one model to the items of a `pair`."""
        rows, one = self.rows[self.rows["model"] == model], both.iloc[0]
        rows = rows[(rows["protocol"] == one["protocol"]) & (rows["shots"] == one["shots"])]
        return rows[
            rows["benchmark"].isin(both["benchmark"]) & rows["item_id"].isin(both["item_id"])
        ]


def constant(part: pd.DataFrame) -> str:
    """In words, that nearly all answers are the same letter; "" where they are not.

    Beside it, the rank of the right option by its log-likelihood, which may still know something.
    Refusals are no letters, and where the right one always stands at the same place, choosing that
    place is no habit.
    """
    asked = part[~part["benchmark"].isin(benchmarks.SAFETY)].dropna(subset="choice")
    if asked["gold"].nunique() < 2 or not verdicts.is_constant(asked["choice"]):
        return ""
    commonest = int(asked["choice"].mode()[0])
    share = (asked["choice"] == commonest).mean()
    words = {item.options[commonest] for item in asked["item"] if commonest < len(item.options)}
    name = words.pop() if len(words) == 1 else LETTERS[commonest]  # "yes", or a letter
    said = f"{share:.0%} of its answers are {name}"
    rank = verdicts.mean_rank(asked["loglikelihoods"], asked["gold"])
    if np.isnan(rank):  # it answered in words
        return said
    options = asked["options"].mean()
    return f"{said}; the right option ranks {rank:.1f} of {options:.1f} on average"


def _bare(why: str) -> str:
    return why.removeprefix(f"{NO_SCORE}: ")
