"""Keep everything that was trained: what is moved aside, what comes back, and what is refused.

A step's result is moved to `replaced/<step>/<first 12 hex digits of its key's sha256>/`, with its
marks and its executed notebook. It comes back from there when its key does.
"""

import json
import os
import shlex
import shutil
from collections.abc import Set
from pathlib import Path
from typing import Any, NamedTuple

from sm70lib.records import damage
from sm70lib.records.shelves import end_move, move, shelf
from sm70lib.steps import keys
from sm70lib.steps.compared import changed, difference
from sm70lib.steps.keys import EVALUATION, WRITES, Key, mark, outputs, short
from sm70lib.study import variants
from sm70lib.study.files import holds, sweep, write_json
from sm70lib.study.params import ROOT, StudyError

# The results of these steps are moved only on request (--fresh).
TRAINED = ("00_base", "03_qlora_finetune")
COMMAND = (
    "SM70_COMMAND"  # set by the runner for its kernels: the study and the command that runs it
)


class Verdict(NamedTuple):
    """What has to happen before a step can start.

    Attributes:
        what: `nothing`, `moves aside`, `comes back` or `refuses`.
        why: How the keys differ; for `refuses`, the sentence of the error.
        place: For `comes back`, the folder that the result comes from.
    """

    what: str
    why: str = ""
    place: Path | None = None


def judge(name: str, params: Any, unknown: Set[str] = frozenset(), command: str = "") -> Verdict:
    """Decides what has to happen to a step's earlier result; moves nothing.

    Args:
        name: The step.
        params: The study's parameters.
        unknown: Steps that have yet to run; inputs from them are not compared.
        command: The command that runs the study; a refusal quotes it.
    """
    command = command or runs(params.study)
    folder = outputs() / params.study
    now = keys.of_step(name, params)
    last = mark(folder, name, "begun") or mark(folder, name)
    why = difference(last["key"], now, unknown) if last else ""
    if last and not why:
        return Verdict("nothing")
    place = stored(folder, name, now, unknown)
    if place:
        return Verdict("comes back", why, place)
    if name in TRAINED and last and _trained(folder, name):
        refusal = _refusal_of_new_key(name, params.study, last["key"], now, why, command)
        return Verdict("refuses", refusal)
    if last and name != EVALUATION:
        return Verdict("moves aside", why)
    return Verdict("nothing", why)


def make_way(name: str, params: Any, command: str = "") -> None:
    """Moves a step's result aside if it has another key, and brings back one with this key.

    Of a result that stays, what is not as it was written is put aside, and the step makes it again.
    For 04_eval nothing else is moved: it checks its prediction files one by one later.

    Args:
        name: The step.
        params: The study's parameters.
        command: The command that runs the study; an error quotes it.

    Raises:
        StudyError: A base or an adapter, finished or not, has another key. Nothing is moved then.
    """
    folder = outputs() / params.study
    end_move(folder)
    for pattern in WRITES[name]:
        # A trainer whose notebook was killed may still write below stages/
        for path in folder.glob(pattern) if pattern != "stages" else ():
            sweep(path)
    verdict = judge(name, params, command=command)
    if verdict.what == "refuses":
        raise StudyError(verdict.why)
    if verdict.what == "moves aside":
        set_aside(folder, name)
    if verdict.what == "nothing":
        put_aside_damage(folder, name)
    if verdict.what == "comes back" and verdict.place:
        aside = set_aside(folder, name)
        bring_back(folder, name, verdict.place)
        also = f"; what was there lies in {aside.relative_to(folder)}" if aside else ""
        place = verdict.place.relative_to(folder)
        print(f"{name}: brought back from {place}{also}", flush=True)


def put_aside_damage(folder: Path, name: str) -> None:
    """Puts aside broken marks, and what a finished step wrote and what is not so any more.

    Once a step is under way again its mark says nothing of files that it may have written since;
    what it has finished by then carries a seal of its own (stages, prediction files).
    """
    if broken := keys.broken_marks(folder, name):
        then = "its other marks count" if mark(folder, name) else "the step runs again"
        damage.set_aside(folder, name, broken, then)
    done = mark(folder, name)
    if not done or mark(folder, name, "begun"):
        return
    damaged = damage.damaged_files(folder, done, whole=name in TRAINED)
    if damaged:
        damage.set_aside(folder, name, damaged, "it is made again")


def make_anew(name: str, params: Any) -> None:
    """Moves a step's result aside; no stored result comes back until the step is finished."""
    folder = outputs() / params.study
    aside = set_aside(folder, name)
    if aside:
        print(f"{name}: what was there lies in {aside.relative_to(folder)}", flush=True)
    begun(folder, name, keys.of_step(name, params), fresh=True)


def begun(folder: Path, name: str, key: Key, fresh: bool = False) -> None:
    """Marks a step as under way.

    Args:
        folder: outputs/<study>.
        name: The step.
        key: The step's key.
        fresh: Whether the step is to be made from scratch. An earlier request for this key stays
            in force until the step is finished.
    """
    last = mark(folder, name, "begun")
    if last.get("fresh", False) and not difference(last["key"], key):
        fresh = True
    write_json(
        folder / "steps" / name / "begun.json", {"key": key, "process": os.getpid(), "fresh": fresh}
    )


def owned(folder: Path, name: str, patterns: tuple[str, ...]) -> list[Path]:
    """The paths that match the patterns, without those that other steps recorded.

    05 and 06 share folders.
    """
    matching = {path for pattern in patterns for path in folder.glob(pattern)}
    for other in WRITES:
        if other != name:
            recorded = mark(folder, other).get("outputs", ())
            matching -= {folder / path for path in recorded}
    return sorted(matching)


def everything(folder: Path, name: str) -> list[Path]:
    """All that belongs to a step: its outputs, its executed notebook and, last, its marks."""
    paths = [
        *owned(folder, name, WRITES[name]),
        folder / f"notebooks/{name}.ipynb",
        folder / "steps" / name,
    ]
    return [path for path in paths if path.exists()]


def set_aside(folder: Path, name: str) -> Path | None:
    """Moves all that belongs to a step to a new folder below replaced/.

    Returns:
        That folder; None if there was nothing to move.
    """
    last = mark(folder, name, "begun") or mark(folder, name)
    paths = everything(folder, name)
    if not paths:
        return None
    digits = short(last["key"]) if last else "unmarked"
    place = shelf(folder, name, digits, paths)
    move(paths, folder, place)
    return place


def stored(folder: Path, name: str, now: Key, unknown: Set[str] = frozenset()) -> Path | None:
    """Finds a complete stored result of a step.

    Args:
        folder: outputs/<study>.
        name: The step.
        now: The key that the result must have.
        unknown: Steps that have yet to run; inputs from them are not compared.

    Returns:
        The folder of the result that was finished last, else of an unfinished one, else None.
    """
    candidates = []
    for place in (folder / "replaced" / name).glob("*"):
        done = mark(place, name)
        last = done or mark(place, name, "begun")
        recorded = done.get("outputs", {})
        whole = all(holds(place / path, record) for path, record in recorded.items())
        if last and whole and not difference(last["key"], now, unknown):
            candidates.append((done.get("finished", ""), place))
    return max(candidates)[1] if candidates else None


def bring_back(folder: Path, name: str, place: Path) -> None:
    """Moves a stored result from `place` to where its step wrote it."""
    move(everything(place, name), place, folder)
    if not any(path.is_file() for path in place.rglob("*")):
        shutil.rmtree(place)


def _trained(folder: Path, name: str) -> bool:
    """Whether there is a finished result or any weights, so that training could be lost."""
    if mark(folder, name):
        return True
    return any(any((folder / top).rglob("*.safetensors")) for top in WRITES[name])


def runs(study: str) -> str:
    """The command that runs a study: the one under way, or by its file in params/, or by FILE."""
    under_way, _, command = os.environ.get(COMMAND, "").partition(" ")
    if under_way == study:
        return command
    given = [path.relative_to(ROOT).as_posix() for path in variants.files_of(study)] or ["FILE"]
    return f"python -m sm70lib run {' '.join(given)}"


def _refusal_of_new_key(name: str, study: str, old: Key, now: Key, why: str, command: str) -> str:
    values = "".join(
        f" -p {n} {shlex.quote(json.dumps(value))}" for n, _, value in changed(old, now)
    )
    return (
        f"{name} of study {study} was made with something else ({why}), and nothing of it is "
        f"thrown away; two ways on: with these values in the study's file, {command} --fresh "
        f"{name[:2]} makes it again and moves the old result to replaced/, from where it comes "
        "back when its values do; or a new study takes over what still agrees "
        f"({command}{values} -p study NAME --from {study})"
    )
