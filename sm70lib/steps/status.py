"""Whether a step is finished: whether its recorded result still holds."""

from pathlib import Path
from typing import Any

from sm70lib.parameters import own
from sm70lib.steps import keys
from sm70lib.steps.compared import difference
from sm70lib.steps.keys import EVALUATION, TUNING, maker, mark, notebook, outputs
from sm70lib.study import files, memory, provenance
from sm70lib.study.params import ROOT

LEFT_OUT = "left_out.json"  # in predictions/: the models for which 04 had too little memory
READINGS = "readings.json"  # in predictions/: the files of people's readings that 04 took in


def status(name: str, params: Any) -> tuple[bool, str]:
    """Whether a step is finished for these parameters, and the reason."""
    folder = outputs() / params.study
    now = keys.of_step(name, params)
    done, begun = mark(folder, name), mark(folder, name, "begun")
    absent = [path for path, sha in now["inputs"].items() if sha is None]
    if absent:
        return False, f"waits for {absent[0]} of {maker(absent[0])}"
    if broken := keys.broken_marks(folder, name):
        return False, f"its mark {broken[0].relative_to(folder)} is broken"
    if not done and not begun:
        return False, "not run yet"
    if not done:
        return False, difference(begun["key"], now) or "goes on where it stopped"
    unfinished = difference(done["key"], now) or _changed_file(folder, params, done)
    if not unfinished and name == TUNING:
        unfinished = _merges(folder, params)
    if not unfinished and name == EVALUATION:
        unfinished = _models_to_add(folder) or _readings_to_take_in(folder)
    if unfinished:
        return False, unfinished
    if done["code"] != provenance.code(notebook(name)):
        redo = f"other code now; --fresh {name[:2]} to redo"
        return True, f"finished, made by commit {done['commit']}, {redo}"
    return True, "finished"


def _changed_file(folder: Path, params: Any, done: dict[str, Any]) -> str:
    """Names the first output or external file that changed since; "" if there is none."""
    recorded = {folder / path: record for path, record in done["outputs"].items()}
    for path, record in done["external"].items():
        place = _external(params, path)
        if place is not None:
            recorded[place] = record
    for path, record in recorded.items():
        if not files.holds(path, record):
            return f"{path.name} is not as it was"
    return ""


def _external(params: Any, path: str) -> Path | None:
    """Where a file or folder from outside is; None if it was moved away, as it has not changed."""
    if own.is_file(path):
        place = own.place(path)
        return place if place.exists() else None
    root = ROOT / params.data_root
    return root / path if root.is_dir() else None


def _merges(folder: Path, params: Any) -> str:
    """What is wrong with the merged models; "" if they are exactly the ones asked for."""
    merged = mark(folder, TUNING, "merged")
    for into in params.train_merge:
        missing = f"merged/{into} is not there yet"
        if into not in merged or not (folder / "merged" / into).is_dir():
            return missing
        if difference(merged[into]["key"], keys.of_merge(params, folder, into)):
            return missing
    for into in merged:
        if into not in params.train_merge:
            return f"merged/{into} is no longer asked for"
    return ""


def _models_to_add(folder: Path) -> str:
    """Names the models that 04 left out, and that fit now; "" if there are none."""
    fitting = _fit_now(folder)
    if not fitting:
        return ""
    verb = "fits" if len(fitting) == 1 else "fit"
    return f"{', '.join(fitting)} {verb} here now"


def _fit_now(folder: Path) -> list[str]:
    """The models that 04 left out for lack of memory, and that fit into the memory here."""
    left = keys.read(folder / "predictions" / LEFT_OUT)
    return [name for name in left if left[name]["needed_gb"] <= memory.at_hand().gb]


def _readings_to_take_in(folder: Path) -> str:
    """Names the judges whose readings 04 has not taken in; "" if there are none.

    A file that is not there any more changes nothing.
    """
    taken = keys.read(folder / "predictions" / READINGS)
    places = {name: own.place(about["file"]) for name, about in taken.items()}
    there = [name for name, path in places.items() if path.is_file()]
    new = [name for name in there if files.digest(places[name]) != taken[name]["sha256"]]
    return f"new readings of {', '.join(new)}" if new else ""
