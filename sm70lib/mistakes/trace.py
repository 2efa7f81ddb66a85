"""The answers behind a number in a table of a study."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from sm70lib.analysis import accuracies, frames, slices
from sm70lib.analysis.frames import OUTCOMES, RUN, SET
from sm70lib.analysis.roles import TUNED
from sm70lib.mistakes import rules
from sm70lib.mistakes.by_rule import TWO_WAYS, letter
from sm70lib.parameters import aggregates
from sm70lib.study.params import StudyError

FROM = "study "  # what the source of our own rows begins with, in tables of models by benchmarks
COUNTED = {outcome: pair for pair, outcome in OUTCOMES.items()}
COUNTED |= {name: COUNTED[outcome] for outcome, name in TWO_WAYS.items()}
NOT_OURS = {"claim", "system"}  # columns of tables whose rows are about no single model of ours
# Columns that count only some of the answers that their row is about
PARTS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "correct": lambda answers: answers["correct"].astype(bool),
    "wrong": lambda answers: ~answers["correct"].astype(bool),
    "wrong_else": lambda answers: ~answers["correct"].astype(bool),
    "unparsed": lambda answers: answers["choice"].isna(),
    "n_flagged": lambda answers: answers["flagged"],
    "gain_flagged_pts": lambda answers: answers["flagged"],
    "n_clean": lambda answers: ~answers["flagged"],
    "gain_clean_pts": lambda answers: ~answers["flagged"],
}


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
        StudyError: there is no such table, row or column, or it was not made from answers.
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
    answers = answers_of(folder, table, cells.get("study", folder.name))
    found = _narrowed(answers, cells, column)
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
    answers = slices.placed(answers)
    if table == "truthfulqa":
        answers = accuracies.medical(answers)
    return frames.named(answers, aggregates.names(answers["benchmark"]))


def _narrowed(answers: pd.DataFrame, cells: dict[str, str], column: str) -> pd.DataFrame:
    """The answers that a row is about, and of these the ones that the column counts."""
    for name in (*RUN, "item_id", "kind"):
        if cells.get(name) and not (name == "kind" and cells[name] == "all"):
            answers = answers[answers[name].astype(str) == _model(name, cells[name])]
    answers = of_subset(answers, cells.get("subset") or _cleaned(cells))
    if cells.get("slice"):
        answers = answers[answers[cells["slice"]].astype(str) == cells["value"]]
    if cells.get("bin"):
        tenth = (10 * answers["confidence"]).fillna(-1).astype(int).clip(upper=9)
        answers = answers[tenth.astype(str) == cells["bin"]]
    if cells.get("rule"):
        held = rules.marks(answers)[cells["rule"]] if len(answers) else answers["correct"]
        answers = answers[~held if "else" in column else held]
    if "protocol_a" in cells:
        answers = _two_protocols(answers, cells, column)
    elif "model" not in cells and "item_id" not in cells:
        answers = _two_models(answers, cells, column)
    return answers[PARTS[column](answers)] if column in PARTS and len(answers) else answers


def _model(name: str, value: str) -> str:
    """A cell, without what tables add to the name of a model."""
    return TUNED if name == "model" and value == accuracies.CLEANED else value


def _cleaned(cells: dict[str, str]) -> str:
    return "clean" if cells.get("model") == accuracies.CLEANED else "all"


def of_subset(answers: pd.DataFrame, subset: str) -> pd.DataFrame:
    """The answers to all items, to the clean ones, or to those of a kind."""
    if subset == "all":
        return answers
    if subset == "clean":
        return answers[~answers["flagged"]]
    return answers[answers["kind"] == subset]


def _two_models(answers: pd.DataFrame, cells: dict[str, str], column: str) -> pd.DataFrame:
    """The answers of both models of a comparison to the items that both answered."""
    first = cells.get("before") or frames.before(answers)
    second = cells.get("after") or TUNED
    both = frames.paired(answers, first, second)
    if column in COUNTED:
        both = both[both["outcome"] == column]
    keys = [*SET, "item_id", "seed", "sample"]
    sides = answers[answers["model"].isin([first, second])]
    return sides.merge(both[keys].drop_duplicates(), on=keys)


def _two_protocols(answers: pd.DataFrame, cells: dict[str, str], column: str) -> pd.DataFrame:
    """The answers to the items that were asked by both protocols."""
    once = answers.drop_duplicates(["protocol", "item_id"])
    sides = [once[once["protocol"] == cells[name]] for name in ("protocol_a", "protocol_b")]
    both = sides[0].merge(sides[1], on="item_id", suffixes=("_a", "_b"))
    if column in COUNTED:
        pairs = zip(both["correct_a"].astype(bool), both["correct_b"].astype(bool))
        both = both[[pair == COUNTED[column] for pair in pairs]]
    return pd.concat([side[side["item_id"].isin(both["item_id"])] for side in sides])


def _why(cells: dict[str, str], wide: bool) -> str:
    if cells.get("model") == accuracies.GUESSER:
        return "the guesser answers nothing, its number follows from the right options alone"
    if wide:
        return "choose the column of a benchmark that this row was asked"
    return "the number is 0, it is quoted, or the column holds no number of answers"
