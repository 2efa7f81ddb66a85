"""The answers behind a number in a table of a study."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from sm70lib.analysis import accuracies, frames, slices
from sm70lib.mistakes import narrow
from sm70lib.mistakes.by_rule import letter
from sm70lib.parameters import aggregates
from sm70lib.study.params import StudyError

FROM = "study "  # what the source of our own rows begins with, in tables of models by benchmarks
NOT_OURS = {"claim", "system"}  # columns of tables whose rows are about no single model of ours


def behind(folder: Path, table: str, row: str, column: str) -> tuple[dict, pd.DataFrame]:
    """Finds the answers that a number in a table was made from.

    Args:
        folder: outputs/<study>.
        table: name of the table, such as `results`.
        row: its number, 1 below the head, or what only this row says, such as
            `model=tuned,benchmark=medqa_4`.
        column: name of the column.

    Returns:
        The row, and its answers (`frames.load`), each with its `file`.

    Raises:
        StudyError: there is no such table, row or column, it was not made from answers, or what
            one of its columns chooses is not known.
    """
    cells = row_of(folder, table, row, column)
    where = f"tables/{table}.csv of study {folder.name}, {row}, {column}"
    wide = str(cells.get("source", "")).startswith(FROM) and "benchmark" not in cells
    if wide:
        cells |= {"study": cells["source"].removeprefix(FROM), "benchmark": column}
    if "benchmark" not in cells or not NOT_OURS.isdisjoint(cells):
        raise StudyError(
            f"{where}: this number was not made from answers of this study; trace one of results, "
            "scorecard, paper, usmle, comparisons, contamination_effect or errors_*."
        )
    if not wide:
        narrow.check(cells, where)
    answers = answers_of(folder, table, cells.get("study", folder.name))
    found = narrow.narrowed(answers, cells, column)
    if found.empty:
        raise StudyError(f"{where}: no answer stands behind it; {_why(cells, wide)}.")
    return cells, found


def text(folder: Path, table: str, row: str, column: str) -> str:
    """The answers behind a number, one line each, under what it says.

    Args:
        folder: outputs/<study>.
        table: name of the table.
        row: as for `behind`.
        column: name of the column.

    Raises:
        StudyError: as `behind`.
    """
    cells, found = behind(folder, table, row, column)
    head = f"tables/{table}.csv, {column}: {cells.get(column) or '(empty)'}"
    return "\n".join([head, *lines(found)])


def lines(found: pd.DataFrame) -> list[str]:
    """One line for each answer, and how many there are.

    Args:
        found: answers as `answers_of` gives them.

    Returns:
        Where the answer stands, its item, the answer and the right answer.
    """
    said = []
    for answer in found.itertuples():
        verdict = "right" if answer.correct else "wrong"
        place = f"{answer.place}predictions/{answer.model}/{answer.file}:{answer.line}"
        words = f"answer {letter(answer.choice)}, right {letter(answer.gold)}: {verdict}"
        said.append(f"{place}  {answer.item_id}  {words}")
    items = len(found[["benchmark", "item_id"]].drop_duplicates())
    right = int(found["correct"].sum())
    return [*said, f"{len(found):,} answers to {items:,} items, {right:,} right"]


def row_of(folder: Path, table: str, row: str, column: str) -> dict[str, str]:
    """The cells of one row, as the table holds them.

    Args:
        folder: outputs/<study>.
        table: name of the table.
        row: as for `behind`.
        column: a column that the table must have.

    Raises:
        StudyError: there is no such table, row or column.
    """
    known = sorted(path.stem for path in folder.glob("tables/*.csv"))
    if table not in known:
        raise StudyError(f"study {folder.name} has no table {table}; it has {', '.join(known)}.")
    path = folder / "tables" / f"{table}.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    if column not in rows:
        raise StudyError(f"tables/{table}.csv has no column {column}; it has {', '.join(rows)}.")
    if row.isdecimal():
        chosen = rows.iloc[int(row) - 1 : int(row)] if int(row) else rows[:0]
    else:
        chosen = rows
        for name, _, value in (part.partition("=") for part in re.split(r",(?=\w+=)", row)):
            if name not in rows:
                raise StudyError(
                    f"tables/{table}.csv has no column {name!r}; a row is a number from 1, or "
                    f"NAME=VALUE[,NAME=VALUE] with names among {', '.join(rows)}."
                )
            chosen = chosen[chosen[name] == value]
    if len(chosen) != 1:
        raise StudyError(
            f"tables/{table}.csv: {row} is {len(chosen)} of {len(rows)} rows; name exactly one."
        )
    return chosen.iloc[0].to_dict()


def answers_of(folder: Path, table: str, study: str) -> pd.DataFrame:
    """All answers of a study, once for each name that tables count them under.

    Args:
        folder: outputs/<study> of the study whose table it is.
        table: name of the table.
        study: the study that answered.

    Returns:
        Rows of `frames.load`, each with its `file`, and `place`, which leads there from `folder`.
    """
    answers = frames.load(folder.parent, [study])
    names = zip(answers["benchmark"], answers["protocol"], answers["shots"])
    answers["file"] = [f"{'-'.join(map(str, name))}.jsonl" for name in names]
    answers["place"] = "" if study == folder.name else f"../{study}/"
    answers = slices.with_slice_columns(answers)
    if table == "truthfulqa":
        answers = accuracies.medical(answers)
    return frames.named(answers, aggregates.names(answers["benchmark"]))


def _why(cells: dict[str, str], wide: bool) -> str:
    if cells.get("model") == accuracies.GUESSER:
        return "the guesser answers nothing, its number follows from the right options alone"
    if wide:
        return "choose the column of a benchmark that this row was asked"
    return "the number is 0, it is quoted, or the column holds no number of answers"
