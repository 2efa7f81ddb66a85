"""The study files of params/, and the overlays that belong to them."""

import re
from pathlib import Path

from sm70lib.study.params import ROOT, StudyError


def overlays() -> list[tuple[Path, ...]]:
    """Pairs of files: a study, and an overlay that belongs to it.

    An overlay belongs to the study that its comment names (`An overlay of sm70.yml`). Without such
    a comment it belongs to the study whose name its own study name extends by a dash and more.

    Raises:
        StudyError: the study of an overlay is not in params/.
    """
    files = sorted((ROOT / "params/overlays").glob("*.yml"))
    return [(_study_of(overlay), overlay) for overlay in files]


def files_of(name: str) -> tuple[Path, ...]:
    """The files that make the study of that name: its own, or a study's and an overlay.

    Returns:
        Nothing if no file in params/ declares the study.
    """
    own = ROOT / f"params/{name}.yml"
    if own.exists():
        return (own,)
    for files in overlays():
        if _own_name(files[-1]) == name:
            return files
    return ()


def _own_name(overlay: Path) -> str | None:
    own = re.search(r"^study: *(\S+)", overlay.read_text(encoding="utf-8"), re.MULTILINE)
    return own[1] if own else None


def _study_of(overlay: Path) -> Path:
    named = re.search(r"^# An overlay of (\S+)\.yml", overlay.read_text(), re.MULTILINE)
    own = _own_name(overlay)
    studies = sorted((ROOT / "params").glob("*.yml"), key=lambda path: len(path.stem))
    if named:
        fitting = [path for path in studies if path.stem == named[1]]
    elif own:
        fitting = [path for path in studies if own.startswith(f"{path.stem}-")]
    else:
        fitting = []
    if not fitting:
        raise StudyError(
            f"{overlay} belongs to no study in params/; begin its study name with that study's "
            "name and a dash, or name the study in a comment: # An overlay of sm70.yml"
        )
    return fitting[-1]  # the longest name that fits
