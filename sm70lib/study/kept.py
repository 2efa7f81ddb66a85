"""Nothing that was trained is thrown away: what moves aside, what comes back, and what is refused.

What a step wrote moves to `replaced/<step>/<first 12 hex digits of its key's sha256>/`, with its
marks and its executed notebook, and comes back from there when its key does.
"""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from sm70lib.study import keys
from sm70lib.study.files import holds, write_json
from sm70lib.study.keys import EVALUATION, WRITES, Key, difference, mark, outputs, short
from sm70lib.study.params import StudyError

TRAINED = ("00_base", "03_qlora_finetune")  # what they wrote is moved by hand alone (--fresh)


class Verdict(NamedTuple):
    """What has to happen before a step goes on.

    `what`: nothing, moves aside, comes back (from `place`) or refuses (with `why`, a sentence).
    """

    what: str
    why: str = ""
    place: Path | None = None


def judge(name: str, params: Any, unknown: set[str] = frozenset(), command: str = "") -> Verdict:
    """What becomes of what is there of a step.

    Inputs that the steps in `unknown` are still to write are not compared. A refusal names the ways
    on with `command`, which runs the study.
    """
    command = command or runs(params.study)
    folder, now = outputs() / params.study, keys.of_step(name, params)
    last = mark(folder, name, "begun") or mark(folder, name)
    why = difference(last["key"], now, unknown) if last else ""
    if last and not why:
        other = _not_as_written(folder, name)
        return Verdict("refuses", _spoilt(name, other, command)) if other else Verdict("nothing")
    if place := stored(folder, name, now, unknown):
        return Verdict("comes back", why, place)
    if name in TRAINED and last and _trained(folder, name):
        return Verdict("refuses", _sentence(name, params.study, last["key"], now, why, command))
    return Verdict("moves aside", why) if last and name != EVALUATION else Verdict("nothing", why)


def make_way(name: str, params: Any, command: str = "") -> None:
    """Brings a step's result back where its key has returned, and moves what has another key aside.

    04_eval sorts its predictions out file by file, later. Raises StudyError, and moves nothing,
    where a finished or half-made base or adapter has another key, or is not as it was written.
    """
    folder, verdict = outputs() / params.study, judge(name, params, command=command)
    if verdict.what == "refuses":
        raise StudyError(verdict.why)
    if verdict.what in ("moves aside", "comes back"):
        aside = set_aside(folder, name)
        if verdict.what == "comes back":
            bring_back(folder, name, verdict.place)
            also = f"; what was there lies in {aside.relative_to(folder)}" if aside else ""
            place = verdict.place.relative_to(folder)
            print(f"{name}: brought back from {place}{also}", flush=True)


def make_anew(name: str, params: Any) -> None:
    """Moves what there is of a step aside; nothing of it comes back before the step is finished."""
    folder = outputs() / params.study
    if aside := set_aside(folder, name):
        print(f"{name}: what was there lies in {aside.relative_to(folder)}", flush=True)
    begun(folder, name, keys.of_step(name, params), fresh=True)


def begun(folder: Path, name: str, key: Key, fresh: bool = False) -> None:
    """Marks a step as under way; what was to be made afresh stays so until it is finished."""
    last = mark(folder, name, "begun")
    fresh = fresh or (last.get("fresh", False) and not difference(last["key"], key))
    write_json(
        folder / "steps" / name / "begun.json", {"key": key, "process": os.getpid(), "fresh": fresh}
    )


# ---- moving -------------------------------------------------------------------------------------


def owned(folder: Path, name: str, patterns: tuple[str, ...]) -> list[Path]:
    """What lies at the patterns, less what other steps recorded (05 and 06 share folders)."""
    others = [mark(folder, other).get("outputs", ()) for other in WRITES if other != name]
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(found - {folder / path for outputs in others for path in outputs})


def everything(folder: Path, name: str) -> list[Path]:
    """All of a step's result: what it wrote, its executed notebook and, last, its marks."""
    paths = [
        *owned(folder, name, WRITES[name]),
        folder / f"notebooks/{name}.ipynb",
        folder / "steps" / name,
    ]
    return [path for path in paths if path.exists()]


def set_aside(folder: Path, name: str) -> Path | None:
    """Moves all there is of a step to a place of its own below replaced/.

    Returns that place; None where there was nothing.
    """
    last = mark(folder, name, "begun") or mark(folder, name)
    if not (paths := everything(folder, name)):
        return None
    place = shelf(folder, name, short(last["key"]) if last else "unmarked", paths)
    move(paths, folder, place)
    return place


def shelf(folder: Path, name: str, digits: str, paths: list[Path]) -> Path:
    """The first of replaced/<step>/<digits>, <digits>-2, ... in which none of the paths lies."""
    number, place = 1, folder / "replaced" / name / digits
    while any((place / path.relative_to(folder)).exists() for path in paths):
        number += 1
        place = place.with_name(f"{digits}-{number}")
    return place


def stored(folder: Path, name: str, now: Key, unknown: set[str] = frozenset()) -> Path | None:
    """Where a result of this key lies whole: the one finished last, else a half-made one."""
    found = []
    for place in (folder / "replaced" / name).glob("*"):
        done, begun_there = mark(place, name), mark(place, name, "begun")
        last = done or begun_there
        whole = all(holds(place / path, record) for path, record in done.get("outputs", {}).items())
        if last and whole and not difference(last["key"], now, unknown):
            found.append((done.get("finished", ""), place))
    return max(found)[1] if found else None


def bring_back(folder: Path, name: str, place: Path) -> None:
    """Moves a stored result to where its step wrote it."""
    move(everything(place, name), place, folder)
    if not any(path.is_file() for path in place.rglob("*")):
        shutil.rmtree(place)


def move(paths: list[Path], start: Path, end: Path) -> None:
    """Moves paths below one folder to the same places below another, one rename each."""
    for path in paths:
        target = end / path.relative_to(start)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


# ---- refusing -----------------------------------------------------------------------------------


def _trained(folder: Path, name: str) -> bool:
    """Whether there are weights or a finished result; without them nothing trained is lost."""
    weights = (path for top in WRITES[name] for path in (folder / top).rglob("*.safetensors"))
    return bool(mark(folder, name)) or any(weights)


def _not_as_written(folder: Path, name: str) -> Path | None:
    """Something trained that was changed since; what is missing is made again from the rest."""
    recorded = mark(folder, name).get("outputs", {}) if name in TRAINED else {}
    places = [
        folder / path
        for path, record in recorded.items()
        if (folder / path).exists() and not holds(folder / path, record)
    ]
    return next(iter(places), None)


def _spoilt(name: str, path: Path, command: str) -> str:
    return (
        f"{path} is not as {name} wrote it: move it away and run again, or make all of the step "
        f"again ({command} --fresh {name[:2]})"
    )


def runs(study: str) -> str:
    """The command that runs a study by its file."""
    return f"python -m sm70lib run params/{study}.yml"


def _sentence(name: str, study: str, old: Key, now: Key, why: str, command: str) -> str:
    values = "".join(
        f" -p {n} {shlex.quote(json.dumps(value))}" for n, _, value in keys.changed(old, now)
    )
    return (
        f"{name} of study {study} was made with something else ({why}), and nothing of it is "
        f"thrown away; two ways on: with these values in the study's file, {command} --fresh "
        f"{name[:2]} makes it again and moves the old result to replaced/, from where it comes back "
        "when its values do; or a new study takes over what still agrees "
        f"({command}{values} -p study NAME --from {study})"
    )
