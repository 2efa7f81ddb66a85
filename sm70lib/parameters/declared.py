"""Which files of params/ declare a study: its own file, or a study's file and an overlay."""

import re
from pathlib import Path


def files_of(folder: Path, name: str) -> tuple[Path, ...]:
    """The files that make the study of that name; nothing if none in the folder declares it."""
    own = folder / f"{name}.yml"
    if own.exists():
        return (own,)
    for study, overlay in overlays(folder):
        if study and _own_name(overlay) == name:
            return study, overlay
    return ()


def overlays(folder: Path) -> list[tuple[Path | None, Path]]:
    """The overlays of a folder of studies, each after the study that it belongs to.

    An overlay belongs to the study that its comment names (`An overlay of sm70.yml`). Without such
    a comment it belongs to the study whose name its own study name extends by a dash and more. It
    may belong to none.
    """
    return [
        (_study_of(overlay, folder), overlay) for overlay in sorted(folder.glob("overlays/*.yml"))
    ]


def _own_name(overlay: Path) -> str | None:
    own = re.search(r"^study: *(\S+)", overlay.read_text(encoding="utf-8"), re.MULTILINE)
    return own[1] if own else None


def _study_of(overlay: Path, folder: Path) -> Path | None:
    text = overlay.read_text(encoding="utf-8")
    named = re.search(r"^# An overlay of (\S+)\.yml", text, re.MULTILINE)
    own = _own_name(overlay)
    studies = sorted(folder.glob("*.yml"), key=lambda path: len(path.stem))
    if named:
        fitting = [path for path in studies if path.stem == named[1]]
    elif own:
        fitting = [path for path in studies if own.startswith(f"{path.stem}-")]
    else:
        fitting = []
    return fitting[-1] if fitting else None  # the longest name that fits
