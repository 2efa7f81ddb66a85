"""Move files of a study to `replaced/<step>/...` and back, each by one rename."""

import os
from pathlib import Path


def shelf(folder: Path, name: str, digits: str, paths: list[Path]) -> Path:
    """The first of replaced/<step>/<digits>, <digits>-2, ... that holds none of the paths."""
    number, place = 1, folder / "replaced" / name / digits
    while any((place / path.relative_to(folder)).exists() for path in paths):
        number += 1
        place = place.with_name(f"{digits}-{number}")
    return place


def move(paths: list[Path], start: Path, end: Path) -> None:
    """Moves paths below the folder `start` to the same places below `end`, each by one rename."""
    for path in paths:
        target = end / path.relative_to(start)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
