"""A new study takes over results of another one that it would make in the same way (run --from).

The other study stays as it is. Weights and Arrow files are never written in place, so both studies
share them by hard links. All other files are copied.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from sm70lib.parameters.fields import Study
from sm70lib.records import shelves
from sm70lib.steps import kept, keys, steps, trained
from sm70lib.steps.compared import difference
from sm70lib.steps.keys import EVALUATION, TUNING, Key, mark, outputs
from sm70lib.study.files import holds, write_json
from sm70lib.study.params import StudyError, rehearsal

SHARED = (".safetensors", ".arrow")
# Files of unfinished work, which are not copied.
LEFT = shutil.ignore_patterns("checkpoint-*", "lock", "*.part", "task.json")


def require(study: str, lenders: Sequence[str]) -> None:
    """Raises StudyError unless all lenders are other studies that have results.

    Rehearsals lend to rehearsals alone.
    """
    known = sorted(path.parent.name for path in outputs().glob("*/steps"))
    for lender in lenders:
        if lender == study:
            raise StudyError(
                f"--from {lender} names the study itself: give the new one a name (-p study NAME)"
            )
        if rehearsal(lender) and not rehearsal(study):
            raise StudyError(
                f"--from {lender}: a rehearsal's models are stand-ins; name a real study"
            )
        if lender not in known:
            raise StudyError(
                f"--from {lender}: there is no such study; "
                f"these have results: {', '.join(known) or 'none'}"
            )


def take_over(study: Study, lender: str, names: list[str], again: bool = False) -> None:
    """Takes over each step whose key agrees, in order, and prints a line for each.

    If 03 does not agree, its agreeing stages are taken over. If 04 does not agree, its prediction
    files are taken over; 04 itself then keeps those that match. A step that the study itself has
    begun or finished is left alone.

    Args:
        study: The new study.
        lender: The name of the other study.
        names: The steps to take over.
        again: Whether they were offered before; then only what is taken is printed.
    """
    old, new = outputs() / lender, outputs() / study.study
    for name in names:
        if mark(new, name) or mark(new, name, "begun"):
            print(f"{name}: {study.study} has its own", flush=True)
            continue
        now = keys.of_step(name, study)
        done = mark(old, name)
        place = _place(old, name, now)
        if place and _take_step(place, new, name, lender):
            print(f"{name}: taken over from {lender}", flush=True)
            continue
        parts: list[str] = []
        if name == TUNING:
            parts = _take_stages(study, old, new)
        if name == EVALUATION:
            parts = _take_predictions(old, new)
        why = difference(done["key"], now) if done else f"not finished in {lender}"
        taken = f"; {', '.join(parts)} taken over from {lender}" if parts else ""
        if parts or not again:
            print(f"{name}: not taken over ({why or 'not as it was written'}){taken}", flush=True)
    if any(mark(new, name) for name in names):
        steps.write_manifest(new)


def take_over_in_turn(study: Study, lenders: Sequence[str], name: str) -> None:
    """Takes a step over, or stages of it, when its turn has come.

    `take_over` cannot know what a step reads before the steps before it are finished. A step that
    was begun, or that a lender has not finished, is left alone.

    Args:
        study: The study.
        lenders: The names of other studies, in the order in which they are asked.
        name: The step.
    """
    for lender in lenders:
        new = outputs() / study.study
        begun = mark(new, name) or mark(new, name, "begun")
        if not begun and mark(outputs() / lender, name):
            take_over(study, lender, [name], again=True)


def _place(old: Path, name: str, now: Key) -> Path | None:
    """The folder of a complete result with this key: the study itself, or one below replaced/."""
    done = mark(old, name)
    if done and not difference(done["key"], now) and _complete(old, done):
        return old
    return kept.stored(old, name, now)


def _complete(folder: Path, done: dict) -> bool:
    return all(holds(folder / path, record) for path, record in done["outputs"].items())


def _take_step(place: Path, new: Path, name: str, lender: str) -> bool:
    """Copies a finished step, its mark last; False if it is unfinished or its place is taken."""
    done = mark(place, name)
    if not done:
        return False
    marks = place / "steps" / name
    _copy([path for path in kept.everything(place, name) if path != marks], place, new)
    if not _complete(new, done):
        return False
    if merged := mark(place, name, "merged"):
        write_json(new / "steps" / name / "merged.json", merged)
    parameters = done["parameters"] | {"study": new.name}
    about = {"study": new.name, "parameters": parameters, "taken_from": lender}
    write_json(new / "steps" / name / "done.json", done | about)
    return True


def _take_stages(study: Study, old: Path, new: Path) -> list[str]:
    """Copies the finished stages that this study would train alike; returns their names."""
    stages = _finished_stages(old)
    taken = []
    for seed in study.train_seeds:
        for number in range(1, len(study.train_stages) + 1):
            now = keys.of_stage(study, new, number, seed)
            target = keys.stage_folder(study, new, number, seed)
            if target.exists():
                continue
            same = [place for place, key in stages.items() if not difference(key, now)]
            if not same:
                break  # the later stages start from something else
            _take_stage(same[0], target, new)
            taken.append(target.name)
    return taken


def _finished_stages(study: Path) -> dict[Path, Key]:
    """The keys of a study's finished stages, by folder; first its own, then the replaced ones."""
    stages = {}
    for pattern in ("stages/*", f"replaced/{TUNING}/*/stages/*"):
        for done in sorted(study.glob(f"{pattern}/done.json")):
            stage = done.parent
            key = keys.key_in(stage / "stage.json")
            if key and trained.finished(stage):
                stages[stage] = key
    return stages


def _take_stage(stage: Path, target: Path, new: Path) -> None:
    scratch = _scratch(new)
    shutil.copytree(stage, scratch / "stage", copy_function=_share, ignore=LEFT)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(scratch / "stage", target)
    scratch.rmdir()


def _take_predictions(old: Path, new: Path) -> list[str]:
    """Copies the prediction files of every model; returns a phrase that counts them."""
    models = [path for path in sorted(old.glob("predictions/*")) if path.is_dir()]
    models = [path for path in models if not (new / path.relative_to(old)).exists()]
    _copy(models, old, new)
    count = sum(len(list(path.glob("*.jsonl"))) for path in models)
    return [f"{count} prediction files"] if count else []


def _copy(paths: list[Path], start: Path, end: Path) -> None:
    """Copies paths of one study to the same places in another; skips a place that is taken.

    Each path appears in its place only when its copy is complete.
    """
    relative = [path.relative_to(start) for path in paths]
    wanted = [path for path in relative if not (end / path).exists()]
    scratch = _scratch(end)
    for path in wanted:
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        if (start / path).is_dir():
            shutil.copytree(start / path, scratch / path, copy_function=_share, ignore=LEFT)
        else:
            _share(start / path, scratch / path)
    shelves.move([scratch / path for path in wanted], scratch, end)
    shutil.rmtree(scratch)


def _scratch(study: Path) -> Path:
    """An empty folder in the study; copies are completed here before they move to their places."""
    scratch = study / "taking"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def _share(source: str | Path, target: str | Path) -> str | Path:
    """Hard-links weights and Arrow data if the disk allows it; else copies, keeping the times."""
    if Path(source).suffix in SHARED:
        try:
            os.link(os.path.realpath(source), target)
            return target
        except OSError:  # another disk, or a file system without links
            pass
    return shutil.copy2(source, target)
