"""Which answers are listed on which page of items, and where each page is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from sm70lib.analysis.frames import RUN
from sm70lib.mistakes.rules import RULES

FOLDER = "items"  # in the folder of the report
EVERY = "all"  # the list without a rule
LISTED = 200  # answers of a list, the surest; of wrong and of right ones each


class Listing(NamedTuple):
    """Answers of one run, of all items or of those that a rule holds for.

    Attributes:
        run: study, model, benchmark, protocol and shots.
        rule: name of the rule, or EVERY.
        wrong: the wrong answers, the surest first; at most LISTED.
        right: the right answers, likewise.
        n_wrong: how many wrong answers there are.
        n_right: how many right answers there are.
    """

    run: tuple
    rule: str
    wrong: pd.DataFrame
    right: pd.DataFrame
    n_wrong: int
    n_right: int

    @property
    def address(self) -> str:
        """The file of the list."""
        _, model, benchmark, protocol, shots = self.run
        return address(model, benchmark, protocol, shots, self.rule)


def listings(answers: pd.DataFrame, marks: pd.DataFrame) -> Iterator[Listing]:
    """The lists of every run: all items, then those of each rule that holds for one.

    Args:
        answers: rows of `frames.load`.
        marks: `rules.marks` of them.
    """
    # A written reply has no confidence and stands last
    answers = answers.sort_values("confidence", ascending=False, kind="stable")
    for run, part in answers.groupby(RUN):
        yield _listing(run, EVERY, part)
        held = marks.loc[part.index]
        for rule in RULES:
            if held[rule.name].any():
                yield _listing(run, rule.name, part[held[rule.name]])


def _listing(run: tuple, rule: str, part: pd.DataFrame) -> Listing:
    correct = part["correct"].astype(bool)
    wrong, right = part[~correct], part[correct]
    return Listing(run, rule, wrong[:LISTED], right[:LISTED], len(wrong), len(right))


def address(model: str, benchmark: str, protocol: str, shots: object, rule: str = EVERY) -> str:
    """The file of a list, such as `tuned-medqa_4-sm70-2023-0-near-miss.html`."""
    words = "-".join([model, benchmark, protocol, str(shots), rule])
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', words)}.html"
