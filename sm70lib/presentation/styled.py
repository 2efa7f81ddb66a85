"""A table as readers see it: text left, numbers right, the same decimals in a column."""

from __future__ import annotations

import re
from typing import NamedTuple

import pandas as pd

from sm70lib.presentation import columns, names

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
SMALL = re.compile(r"< 0\.\d+")  # such as a p-value that is not printed
NONE = "–"
MOST_DECIMALS = 3
MODELS, BENCHMARKS = ("model", "before", "after"), ("benchmark",)
SENTENCES = ("reading", "why", "claim", "verdict", "caption")


class Styled(NamedTuple):
    """A table whose cells are text.

    Attributes:
        heads: what stands above each column.
        rows: the cells.
        right: for each column, whether it holds numbers, which stand at the right.
        cited: for each row, whether it quotes others (†).
        caption: what the table shows, and what all of its rows share.
    """

    heads: list[str]
    rows: list[list[str]]
    right: list[bool]
    cited: list[bool]
    caption: str


def styled(table: pd.DataFrame, caption: str = "") -> Styled:
    """A table for readers.

    Args:
        table: as it is written to CSV, or read from there; its index is not shown.
        caption: what it shows.

    Returns:
        Heads and cells; a column whose rows all say the same is a sentence of the caption, and a
        column without any value is left out.
    """
    cells = table.astype(object).where(table.notna(), "").map(str)
    cited = [any(cell.endswith("†") for cell in row) for row in cells.to_numpy()]
    cells, notes = _without_shared(cells, caption)
    heads, shown, right = [], [], []
    for head, values, numeric in _joined(cells):
        heads.append(head)
        shown.append(values)
        right.append(numeric)
    rows = [list(row) for row in zip(*shown)]
    return Styled(heads, rows, right, cited, " ".join([caption, *notes]).strip())


def _without_shared(cells: pd.DataFrame, caption: str) -> tuple[pd.DataFrame, list[str]]:
    """The cells without columns that are empty or always the same, and what these said."""
    notes: list[str] = []
    gone = []
    for name in cells.columns if len(cells) > 1 else ():
        values = set(cells[name]) - {""}
        if not values:
            gone.append(name)
        elif len(values) == 1 and columns.of(str(name)).note:
            gone.append(name)
            notes += _note(str(name), values.pop(), caption)
    return cells.drop(columns=gone), notes


def _note(name: str, value: str, caption: str) -> list[str]:
    """What all rows share, as a sentence; none if the caption says it already, or if it is 0."""
    said = {"shots": f"{value}-shot", "study": f"tudy {value}"}.get(name, value)
    if said in caption or (name == "unparsed" and value == "0"):
        return []
    return [f"{columns.of(name).head}: {_written(name, value)}."]


def _joined(cells: pd.DataFrame) -> list[tuple[str, list[str], bool]]:
    """Head, cells and side of each column, with a value and its interval in one column."""
    whole = []
    taken: set[str] = set()
    for name in map(str, cells.columns):
        if name in taken:
            continue
        values, right = _column(name, cells[name])
        mixed = name in columns.BY_MEASURE and "measure" in cells
        if mixed:
            values = _by_measure(cells[name], cells["measure"])
        head = columns.of(name).head
        ends = columns.INTERVALS.get(name, ())
        other = columns.BOUNDS.get(name)
        if ends and set(ends) <= set(cells.columns):
            low, high = (
                _by_measure(cells[end], cells["measure"])
                if mixed
                else _column("acc_pct", cells[end])[0]
                for end in ends
            )
            values = [_interval(*parts) for parts in zip(values, low, high)]
            head = head.replace(" (", " [interval] (") if "(" in head else f"{head} [interval]"
            taken |= set(ends)
        elif other in cells.columns:
            values = [f"{a} to {b}" for a, b in zip(values, _column(name, cells[other])[0])]
            head = columns.HEADS_OF_BOUNDS[name]
            taken.add(str(other))
        whole.append((head, values, right))
    return whole


def _by_measure(values: pd.Series, measures: pd.Series) -> list[str]:
    """Numbers of several units, each with the decimals of its own."""
    return [
        _number(value, columns.decimals_of(measure), False)
        for value, measure in zip(values, measures)
    ]


def _interval(value: str, low: str, high: str) -> str:
    return value if low in ("", NONE) else f"{value} [{low}, {high}]"


def _column(name: str, values: pd.Series) -> tuple[list[str], bool]:
    """The cells of a column, and whether they are numbers."""
    filled = [value for value in values if value]
    numeric = all(NUMBER.fullmatch(value) or SMALL.fullmatch(value) for value in filled)
    numeric = numeric and bool(filled)
    if not numeric:
        return [_written(name, value) for value in values], _all_accuracies(filled)
    about = columns.of(name)
    decimals = about.decimals
    if decimals is None:
        decimals = min(MOST_DECIMALS, max(map(_decimals, filled)))
    return [_number(value, decimals, about.signed) for value in values], True


def _all_accuracies(filled: list[str]) -> bool:
    """Whether all cells begin as a number with its interval or its n does."""
    return bool(filled) and all(
        re.match(r"[-+]?\d+\.\d+ ?(\[|\(|n[=~]|$)", cell) for cell in filled
    )


def _number(value: str, decimals: int, signed: bool) -> str:
    if not value:
        return NONE
    if SMALL.fullmatch(value):
        return value
    number = float(value)
    if decimals == 3 and 0 < abs(number) < 0.001:
        return "< 0.001"
    text = f"{number:{'+' if signed else ''},.{decimals}f}"
    return text.lstrip("+-") if float(f"{number:.{decimals}f}") == 0 else text


def _decimals(value: str) -> int:
    return MOST_DECIMALS if "e" in value else len(value.partition(".")[2].rstrip("0"))


def _written(name: str, value: str) -> str:
    """A cell of text with the names that people write."""
    if name in MODELS:
        return names.model(value)
    if name in BENCHMARKS:
        return names.text(names.benchmark(value))
    if name == "source":  # a training source, a quotation, or a benchmark whose text is read
        return names.benchmark(value)
    if name == "subset":
        return names.subset(value)
    return names.text(value) if name in SENTENCES else value
