"""Find what a finished step wrote and what is not so any more, and put it aside."""

from pathlib import Path
from typing import Any

from sm70lib.records.shelves import move, shelf
from sm70lib.study import files
from sm70lib.study.files import write_json

DAMAGED = "damaged"  # what is put aside lies in replaced/<step>/damaged/


def damaged_files(folder: Path, done: dict[str, Any], whole: bool) -> list[Path]:
    """The files of a step that are there and are not as its mark says.

    Args:
        folder: outputs/<study>.
        done: The mark of the finished step.
        whole: Whether an output is given as a whole, because no part of a model can be made again
            alone; otherwise its files.
    """
    paths: list[Path] = []
    for output, recorded in done.get("outputs", {}).items():
        changed = _changed(folder / output, recorded)
        if changed and whole:
            changed = [folder / output]
        paths += [path for path in changed if path.exists() or path.is_symlink()]
    return paths


def _changed(path: Path, recorded: dict[str, Any]) -> list[Path]:
    """The changed files; of a record without `contents`, those that are newer than it."""
    changed = files.changed(path, recorded)
    if changed != [path] or not path.is_dir() or "contents" in recorded:
        return changed
    there = [file for file in path.rglob("*") if file.is_file()]
    if not there:  # an empty folder, perhaps in the place of a file
        return changed
    newer = [file for file in there if file.stat().st_mtime_ns > recorded.get("mtime_ns", 0)]
    if newer or len(there) < recorded.get("files", 0):  # a missing file is no damage to the others
        return sorted(newer)
    return changed


def set_aside(folder: Path, name: str, paths: list[Path], then: str) -> None:
    """Moves what is not as it was written to replaced/<step>/damaged/, and says so.

    Args:
        folder: outputs/<study>.
        name: The step that wrote it.
        paths: Files and folders below `folder`.
        then: What happens next, for the sentence.
    """
    place = shelf(folder, name, DAMAGED, paths)
    move(paths, folder, place)
    names = [path.relative_to(folder).as_posix() for path in paths]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if names[3:] else "")
    verb = "is" if len(names) == 1 else "are"
    where = place.relative_to(folder)
    print(f"{name}: {shown} {verb} not as written; put aside in {where}; {then}", flush=True)


def distrust(folder: Path, name: str, done: dict[str, Any], output: str) -> None:
    """Makes a mark compare an output by content from now on, whatever its size and time.

    Damage that changed no time is found when a later step reads the whole file. Its step counts as
    unfinished then, until the file is as it was.

    Args:
        folder: outputs/<study>.
        name: The step that wrote the output.
        done: The mark of that step.
        output: The output, as the mark names it.
    """
    recorded = done["outputs"][output]
    for entry in (recorded, *recorded.get("contents", {}).values()):
        entry["mtime_ns"] = 0
    write_json(folder / "steps" / name / "done.json", done)
