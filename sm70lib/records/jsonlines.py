"""The lines of a prediction file: which can be kept, and what is wrong with the others."""

import errno
import json
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sm70lib.study.files import write_text
from sm70lib.study.params import StudyError

Asked = tuple[str, int]  # item id and seed


@contextmanager
def appending(path: Path) -> Iterator[None]:
    """Lets the error of a full disk name the file, which an error of an open file does not.

    Raises:
        OSError: The disk is full; the error names `path`.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


class Lines(NamedTuple):
    """What a prediction file holds.

    Attributes:
        kept: The lines that can be kept, by item id and seed, in their order.
        faults: What is wrong with other lines, one sentence for each.
        whole: Whether the file holds the kept lines and nothing else.
    """

    kept: dict[Asked, str]
    faults: list[str]
    whole: bool


def read(path: Path) -> Lines:
    """Reads a prediction file.

    A last line without an end is half written, as a kill leaves it, and is no fault. Of two lines
    with the same scores one is kept; of two lines that differ none, as nothing tells which is true.
    """
    text = path.read_bytes()
    *ended, half = text.split(b"\n")
    kept: dict[Asked, str] = {}
    places: dict[Asked, int] = {}
    doubtful: set[Asked] = set()
    faults = []
    for number, line in enumerate(ended, 1):
        asked, record = _parsed(line)
        if asked is None:
            faults.append(
                f"line {number} is not a prediction and is dropped; its item is scored anew"
            )
        elif asked not in places:
            kept[asked], places[asked] = line.decode(), number
        elif _scores(record) == _scores(json.loads(kept.get(asked, "{}"))):
            faults.append(f"line {number} repeats line {places[asked]} ({asked[0]}); one is kept")
        else:
            doubtful.add(asked)
            faults.append(
                f"lines {places[asked]} and {number} differ about item {asked[0]}, as if two "
                "processes had written them; none is kept, and the item is scored anew"
            )
    kept = {asked: line for asked, line in kept.items() if asked not in doubtful}
    return Lines(kept, faults, not faults and not half)


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a finished prediction file, each with its `model` and the number of its `line`.

    Raises:
        StudyError: A line is not a prediction, or an item is there twice.
    """
    found: list[dict[str, Any]] = []
    places: dict[Asked, int] = {}
    shown = f"predictions/{path.parent.name}/{path.name}"
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        asked, record = _parsed(line)
        if asked is None:
            raise StudyError(f"{shown}, line {number} is not a prediction: run 04_eval again")
        if asked in places:
            raise StudyError(
                f"{shown}, lines {places[asked]} and {number}: item {asked[0]} is there twice, so "
                "that every number would count it twice; score the study again (--fresh 04)"
            )
        places[asked] = number
        found.append({"model": path.parent.name, "line": number} | record)
    return found


def mend(path: Path, wanted: Set[Asked] | None = None) -> set[Asked]:
    """Drops what cannot be kept of a prediction file, and says so.

    Args:
        path: The file, whether it exists or not.
        wanted: Item id and seed of all lines that it may have; by default any.

    Returns:
        Item id and seed of every line that is kept.
    """
    if not path.exists():
        return set()
    found = read(path)
    strange = found.kept.keys() - wanted if wanted is not None else set()
    faults = [*found.faults, *(f"item {item} is not asked and is dropped" for item, _ in strange)]
    say(path, faults)
    kept = {asked: line for asked, line in found.kept.items() if asked not in strange}
    if strange or not found.whole:
        write_text(path, "".join(f"{line}\n" for line in kept.values()))
    return set(kept)


def say(path: Path, faults: list[str]) -> None:
    """Prints what is wrong with lines of a prediction file."""
    for fault in faults:
        print(f"{path.parent.name}/{path.name}: {fault}", flush=True)


def drop_half_line(path: Path) -> None:
    """Removes a last line that is only half written, as a kill leaves it."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)


def _parsed(line: bytes) -> tuple[Asked | None, Any]:
    try:
        record = json.loads(line)
        asked = record["item_id"], record["seed"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, None
    if isinstance(asked[0], str) and isinstance(asked[1], int):
        return asked, record
    return None, None


def _scores(record: dict[str, Any]) -> dict[str, Any]:
    """A line without what differs whenever an item is scored again."""
    return {name: value for name, value in record.items() if name != "seconds"}
