"""Move files of a study to `replaced/<step>/...` and back, each by one rename.

A kill between two renames would leave half of a result in each place, and what was trained would be
trained again. So a note says what is moved, until all of it is; the next run ends the move.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sm70lib.records import marks
from sm70lib.study.files import write_json

MOVING = "moving.json"  # the note, in the study's folder


def shelf(folder: Path, name: str, digits: str, paths: list[Path]) -> Path:
    """The first of replaced/<step>/<digits>, <digits>-2, ... that holds none of the paths."""
    number, place = 1, folder / "replaced" / name / digits
    while any((place / path.relative_to(folder)).exists() for path in paths):
        number += 1
        place = place.with_name(f"{digits}-{number}")
    return place


def move(paths: list[Path], start: Path, end: Path) -> None:
    """Moves paths below the folder `start` to the same places below `end`, each by one rename.

    One of the two is the study's folder, and the other is in it.
    """
    back = start.is_relative_to(end)
    folder, place = (end, start) if back else (start, end)
    names = [path.relative_to(start).as_posix() for path in paths]
    if len(names) > 1:
        about = {"place": place.relative_to(folder).as_posix(), "back": back, "paths": names}
        write_json(folder / MOVING, about)
    for name in names:
        _move(start / name, end / name)
    (folder / MOVING).unlink(missing_ok=True)


def end_move(folder: Path) -> None:
    """Ends a move in the study's folder that a kill has cut short; its lock is held here."""
    found: Any = None
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads((folder / MOVING).read_text(encoding="utf-8"))
    if marks.is_whole(found, "moving"):
        place = folder / found["place"]
        start, end = (place, folder) if found["back"] else (folder, place)
        for name in found["paths"]:
            if os.path.lexists(start / name) and not os.path.lexists(end / name):
                _move(start / name, end / name)
    with suppress(OSError):
        (folder / MOVING).unlink()


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)
