"""What a person has read: a file of readings, taken in beside the judgements of models."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sm70lib.benchmarks import Item
from sm70lib.judging.judgements import Case, place
from sm70lib.parameters import own
from sm70lib.sources.records import records
from sm70lib.steps.status import READINGS
from sm70lib.steps.steps import digest, write_json, write_text
from sm70lib.study.judges import Judge
from sm70lib.study.params import StudyError

ABOUT = ("model", "benchmark", "item_id", "criterion")
NEEDED = (*ABOUT, "met", "reader")
MET = {"true": True, "false": False, "": None, "null": None, "none": None}


def absent(judge: Judge) -> str:
    """What there is to say as long as a person's file is not there; "" once it is.

    A person can read no reply before there is one, so a study begins without the file.
    """
    path = own.place(judge.readings)
    if path.is_file():
        return ""
    return (
        f"eval_judges: {judge.name}: there is no file {judge.readings} ({path}) yet, so no reply "
        f"counts as read by {judge.name}; put it there when replies have been read, and the same "
        "command takes it in and scores nothing again"
    )


def require(judge: Judge, models: Collection[str], items: Mapping[str, list[Item]]) -> None:
    """Checks the rows of a person's file, as far as no reply is needed for that.

    Args:
        judge: the person; the file need not be there yet.
        models: the names of all models that write replies.
        items: the conversations by benchmark; [] where they have not been read yet.

    Raises:
        StudyError: the file cannot be read, or a row says nothing of use.
    """
    pairs = [(model, benchmark) for model in models for benchmark in items]
    criteria = {name: {item.id: len(item.options) for item in items[name]} for name in items}
    seen = set()
    for where, row in _rows(judge):
        _require_asked(where, row, pairs)
        if counts := criteria[row["benchmark"]]:
            _require_criterion(where, row, counts.get(row["item_id"], 0))
        about = tuple(row[name] for name in ABOUT)
        if about in seen:
            raise _twice(where, row)
        seen.add(about)


def take_in(judge: Judge, asked: dict[tuple[str, str], tuple[Path, list[Case]]]) -> None:
    """Writes a person's readings beside the predictions that they are about.

    Args:
        judge: the person, with the file: JSON Lines, JSON or CSV with the columns NEEDED and,
            to be sure that the reply is still the one that was read, `reply_digest`. Without the
            file there are no readings, and that is said.
        asked: the prediction file and all cases, by model and benchmark.

    Raises:
        StudyError: a row is about nothing that was asked.
    """
    lines: dict[Path, dict[Any, str]] = {
        place(predictions, judge.name): {} for predictions, _ in asked.values()
    }
    found = {run: _by_criterion(cases) for run, (_, cases) in asked.items()}
    for where, row in _rows(judge):
        _require_asked(where, row, asked)
        run = row["model"], row["benchmark"]
        case = _case(where, row, found[run].get(row["item_id"], {}))
        line = case.about | {"met": _met(where, row["met"]), "judge": str(row["reader"])}
        of_run = lines[place(asked[run][0], judge.name)]
        if (key := case.key) in of_run:
            raise _twice(where, row)
        of_run[key] = f"{json.dumps(line)}\n"
    for target, texts in lines.items():
        if texts:
            write_text(target, "".join(texts.values()))
        else:
            target.unlink(missing_ok=True)  # of readings that have been taken out of the file
    if said := absent(judge):
        print(said)


def digests(people: Collection[Judge]) -> dict[str, dict[str, str | None]]:
    """The file of each person and its sha256 (hex), which is None as long as there is no file."""
    places = {judge: own.place(judge.readings) for judge in people}
    return {
        judge.name: {"file": judge.readings, "sha256": digest(path) if path.is_file() else None}
        for judge, path in places.items()
    }


def remember(folder: Path, taken: dict[str, dict[str, str | None]]) -> None:
    """Records what `digests` gave before the files were taken in: 04 runs again for other ones."""
    path = folder / "predictions" / READINGS
    if taken:
        write_json(path, taken)
    else:
        path.unlink(missing_ok=True)


def _rows(judge: Judge) -> Iterator[tuple[str, dict]]:
    """Every row of a person's file and where it stands; none as long as there is no file."""
    path = own.place(judge.readings)
    for number, row in records(path) if path.is_file() else ():
        where = f"eval_judges: {judge.name}: {path}, row {number}"
        lacking = [name for name in NEEDED if not isinstance(row, dict) or name not in row]
        if lacking:
            raise StudyError(
                f"{where}: there is no {lacking[0]}; a reading has {', '.join(NEEDED)}"
            )
        _met(where, row["met"])
        yield where, row | {name: str(row[name]) for name in ABOUT}


def _by_criterion(cases: list[Case]) -> dict[str, dict[str, Case]]:
    """The cases of a run by the ids of their conversations, then by the numbers of criteria."""
    found: dict[str, dict[str, Case]] = {}
    for case in cases:
        found.setdefault(case.item.id, {})[str(case.number)] = case
    return found


def _case(where: str, row: dict, found: dict[str, Case]) -> Case:
    """The case that a row is about, of those of its conversation."""
    _require_criterion(where, row, len(found))
    case = found[row["criterion"]]
    now = case.about["reply_digest"]
    read = row.get("reply_digest") or now
    if read != now:
        raise StudyError(
            f"{where}: the reply that was read ({read}) is not the one that is there now ({now}); "
            "read it again, or take the row out"
        )
    return case


def _require_asked(where: str, row: dict, pairs: Collection[tuple[str, str]]) -> None:
    """Raises StudyError unless the model of a row replies to its benchmark in this study."""
    if (row["model"], row["benchmark"]) in pairs:
        return
    there = ", ".join(f"{model} on {benchmark}" for model, benchmark in pairs)
    raise StudyError(
        f"{where}: {row['model']} wrote no replies to {row['benchmark']} here; there are those of "
        f"{there}; take the row out, or give another model or benchmark"
    )


def _require_criterion(where: str, row: dict, count: int) -> None:
    """Raises StudyError unless a row's criterion is one of the `count` of its conversation.

    A conversation that is not asked has none.
    """
    if not count:
        raise StudyError(
            f"{where}: no reply to {row['item_id']} is asked for in {row['benchmark']}; take the "
            "row out, or give another item_id"
        )
    if row["criterion"] not in map(str, range(1, count + 1)):
        raise StudyError(
            f"{where}: criterion is {row['criterion']}; {row['item_id']} has 1 to {count}"
        )


def _twice(where: str, row: dict) -> StudyError:
    return StudyError(
        f"{where}: criterion {row['criterion']} of {row['item_id']} stands there already; give "
        "each reader a file of their own"
    )


def _met(where: str, value: Any) -> bool | None:
    """A reading: met, not met, or None where the reader could not tell."""
    word = "" if value is None else str(value).strip().lower()
    if word not in MET:
        raise StudyError(f"{where}: met is {value!r}; allowed are true, false, and nothing")
    return MET[word]
