"""The study files of params/, and the overlays that belong to them."""

from pathlib import Path

from sm70lib.parameters import declared
from sm70lib.study.params import ROOT, StudyError


def overlays() -> list[tuple[Path, ...]]:
    """Pairs of files: a study, and an overlay that belongs to it (see `declared.overlays`).

    Raises:
        StudyError: the study of an overlay is not in params/.
    """
    pairs: list[tuple[Path, ...]] = []
    for study, overlay in declared.overlays(ROOT / "params"):
        if study is None:
            raise StudyError(
                f"{overlay} belongs to no study in params/; begin its study name with that study's "
                "name and a dash, or name the study in a comment: # An overlay of sm70.yml"
            )
        pairs.append((study, overlay))
    return pairs


def files_of(name: str) -> tuple[Path, ...]:
    """The files that make the study of that name; nothing if none in params/ declares it."""
    return declared.files_of(ROOT / "params", name)
