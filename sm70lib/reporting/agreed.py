"""This run beside the committed runs, for the first screen."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from sm70lib.claims import entries
from sm70lib.presentation import names
from sm70lib.reporting.made import Made

NAMED = 2  # accuracies outside that the sentence names


class Agreement(NamedTuple):
    """Whether this run lies where another run was expected.

    Attributes:
        inside: how many accuracies do.
        of: how many were compared; 0 where nothing could be.
        words: a sentence.
    """

    inside: int
    of: int
    words: str


def agreement(made: Made) -> Agreement | None:
    """The comparison that 06 wrote to `agreement`; None where the study has none.

    The committed runs are SM70's tiny study, with which no other paper's can be compared.
    """
    path = made.folder / "tables/agreement.md"
    if not path.exists() or entries.held_against(made.name) != entries.FIRST:
        return None
    table = made.table("agreement")
    caption = path.read_text(encoding="utf-8").split("\n")[0]
    if table.empty:
        return Agreement(0, 0, caption)
    inside = table["agrees"] == "yes"
    words = f"{_by_protocol(table, inside)}{_outside(table[~inside])}"
    return Agreement(int(inside.sum()), len(table), f"{words} {caption.partition('. ')[2]}")


def _by_protocol(table: pd.DataFrame, inside: pd.Series) -> str:
    counts = [
        f"{inside[part.index].sum()} of {len(part)} under {protocol}"
        for protocol, part in table.groupby("protocol")
    ]
    return f"Accuracies within the spread of the committed runs: {names.listed(counts)}."


def _outside(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    said = [
        f"{names.model(row.model)} on {names.benchmark(row.benchmark)} ({row.protocol}), "
        f"{row.this_run_pct} where {row.expected_low_pct} to {row.expected_high_pct} was expected"
        for row in table.head(NAMED).itertuples()
    ]
    if len(table) > NAMED:
        said.append(f"{len(table) - NAMED} more")
    return f" Outside: {'; '.join(said)}."
