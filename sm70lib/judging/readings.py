"""What a person has read: a file of readings, taken in beside the judgements of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sm70lib.judging.judgements import Case, place
from sm70lib.sources.records import records
from sm70lib.steps.steps import write_text
from sm70lib.study.judges import Judge
from sm70lib.study.params import ROOT, StudyError

NEEDED = ("model", "benchmark", "item_id", "criterion", "met", "reader")
MET = {"true": True, "false": False, "": None, "null": None, "none": None}


def take_in(judge: Judge, asked: dict[tuple[str, str], tuple[Path, list[Case]]]) -> None:
    """Writes a person's readings beside the predictions that they are about.

    Args:
        judge: the person, with the file: JSON Lines, JSON or CSV with the columns NEEDED and,
            to be sure that the reply is still the one that was read, `reply_digest`.
        asked: the prediction file and all cases, by model and benchmark.

    Raises:
        StudyError: the file is missing, or a row is about nothing that was asked.
    """
    path = file_of(judge)
    lines: dict[Path, dict[Any, str]] = {
        place(predictions, judge.name): {} for predictions, _ in asked.values()
    }
    for number, row in records(path):
        where = f"{path}, row {number}"
        predictions, case = _case(where, row, asked)
        line = case.about | {"met": _met(where, row["met"]), "judge": str(row["reader"])}
        of_run = lines[place(predictions, judge.name)]
        if case.key in of_run:
            raise StudyError(
                f"{where}: criterion {case.number} of {row['item_id']} stands there already; give "
                "each reader a file of their own"
            )
        of_run[case.key] = f"{json.dumps(line)}\n"
    for target, texts in lines.items():
        if texts:
            write_text(target, "".join(texts.values()))
        else:
            target.unlink(missing_ok=True)  # of readings that have been taken out of the file


def file_of(judge: Judge) -> Path:
    """The file of a person's readings; raises StudyError if there is none."""
    path = ROOT / judge.readings
    if not path.is_file():
        raise StudyError(
            f"eval_judges: {judge.name}: there is no file {judge.readings}; give the path of the "
            "readings from the repository root, or in full"
        )
    return path


def _case(where: str, row: Any, asked: dict) -> tuple[Path, Case]:
    """The prediction file and the case that a row is about."""
    lacking = [name for name in NEEDED if not isinstance(row, dict) or name not in row]
    if lacking:
        raise StudyError(f"{where}: there is no {lacking[0]}; a reading has {', '.join(NEEDED)}")
    if (row["model"], row["benchmark"]) not in asked:
        pairs = ", ".join(f"{model} on {benchmark}" for model, benchmark in asked)
        raise StudyError(
            f"{where}: {row['model']} wrote no replies to {row['benchmark']} here; there are those "
            f"of {pairs}"
        )
    predictions, cases = asked[row["model"], row["benchmark"]]
    found = [case for case in cases if case.about["item_id"] == row["item_id"]]
    if not found:
        raise StudyError(f"{where}: no reply to {row['item_id']} is among {predictions.name}")
    numbers = {str(case.number): case for case in found}
    case = numbers.get(str(row["criterion"]))
    if case is None:
        raise StudyError(
            f"{where}: criterion is {row['criterion']}; {row['item_id']} has 1 to {len(found)}"
        )
    read = row.get("reply_digest") or case.about["reply_digest"]
    if read != case.about["reply_digest"]:
        raise StudyError(
            f"{where}: the reply that was read ({read}) is not the one that is there now "
            f"({case.about['reply_digest']}); read it again, or take the row out"
        )
    return predictions, case


def _met(where: str, value: Any) -> bool | None:
    """A reading: met, not met, or None where the reader could not tell."""
    word = "" if value is None else str(value).strip().lower()
    if word not in MET:
        raise StudyError(f"{where}: met is {value!r}; allowed are true, false, and nothing")
    return MET[word]
