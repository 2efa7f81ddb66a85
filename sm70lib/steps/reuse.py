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
from sm70lib.steps import keys, replaced, steps, trained
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


def take_over(study: Study, lenders: Sequence[str], names: list[str]) -> None:
    """Takes over each step whose key agrees, in order, and prints a line for each.

    The first lender that has a step gives it. Of 03 and 04 parts are taken over where the whole
    does not agree (see `_parts`). A step that the study itself has begun or finished is left alone.
    On one that reads what is not made yet, `take_over_in_turn` decides.

    Args:
        study: The new study.
        lenders: The names of other studies, in the order in which they are asked.
        names: The steps to take over.
    """
    waiting = []
    for name in names:
        if _has_own(study, name):
            print(f"{name}: {study.study} has its own", flush=True)
        elif None in keys.of_step(name, study)["inputs"].values():
            waiting.append(name)
        else:
            print(_taken(study, lenders, name)[1], flush=True)
    if waiting:
        print(f"{', '.join(waiting)}: decided in turn, when what is read there is made", flush=True)


def take_over_in_turn(study: Study, lenders: Sequence[str], name: str) -> None:
    """Takes a step over, or parts of it, when its turn has come, and prints what was taken.

    Now all is there that the step reads, and it may agree where `take_over` could not know.

    Args:
        study: The study.
        lenders: The names of other studies, in the order in which they are asked.
        name: The step.
    """
    if _has_own(study, name):
        return
    taken, said = _taken(study, lenders, name)
    if taken:
        print(said, flush=True)


def _has_own(study: Study, name: str) -> bool:
    """Whether a study has begun or finished a step."""
    new = outputs() / study.study
    return bool(mark(new, name) or mark(new, name, "begun"))


def _taken(study: Study, lenders: Sequence[str], name: str) -> tuple[bool, str]:
    """Takes over a step, or parts of it; whether anything was taken, and what to say."""
    new, now = outputs() / study.study, keys.of_step(name, study)
    refusals = []
    for lender in lenders:
        place = _place(outputs() / lender, name, now)
        if place and _take_step(place, new, name, lender):
            return True, f"{name}: taken over from {lender}"
        done = mark(outputs() / lender, name)
        why = difference(done["key"], now) if done else f"not finished in {lender}"
        refusals.append(why or "not as it was written")
    found = {lender: _parts(study, name, outputs() / lender) for lender in lenders}
    parts = [
        f"{', '.join(some)} taken over from {lender}" for lender, some in found.items() if some
    ]
    why = "; ".join(dict.fromkeys(refusals))
    return bool(parts), "; ".join([f"{name}: not taken over ({why})", *parts])


def _parts(study: Study, name: str, old: Path) -> list[str]:
    """Takes over stages of 03, or predictions of 04, that agree; returns their names in words."""
    new = outputs() / study.study
    if name == TUNING:
        return _take_stages(study, old, new)
    if name == EVALUATION:
        return _take_predictions(study, old, new)
    return []


def _place(old: Path, name: str, now: Key) -> Path | None:
    """The folder of a complete result with this key: the study itself, or one below replaced/."""
    done = mark(old, name)
    if done and not difference(done["key"], now) and _complete(old, done):
        return old
    return replaced.stored(old, name, now)


def _complete(folder: Path, done: dict) -> bool:
    return all(holds(folder / path, record) for path, record in done["outputs"].items())


def _take_step(place: Path, new: Path, name: str, lender: str) -> bool:
    """Copies a finished step, its mark last; False if it is unfinished or its place is taken."""
    done = mark(place, name)
    if not done:
        return False
    marks = place / "steps" / name
    _copy([path for path in replaced.everything(place, name) if path != marks], place, new)
    if not _complete(new, done):
        return False
    if merged := mark(place, name, "merged"):
        write_json(new / "steps" / name / "merged.json", merged)
    parameters = done["parameters"] | {"study": new.name}
    about = {"study": new.name, "parameters": parameters, "taken_from": lender}
    write_json(new / "steps" / name / "done.json", done | about)
    steps.write_manifest(new)
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


def _take_predictions(study: Study, old: Path, new: Path) -> list[str]:
    """Copies the prediction files of models that may be the same; returns how many, in words.

    04 keeps those that match and scores the rest.
    """
    models = [path for path in sorted(old.glob("predictions/*")) if path.is_dir()]
    models = [path for path in models if not (new / path.relative_to(old)).exists()]
    models = [path for path in models if _may_be_same(path.name, study, old, new)]
    _copy(models, old, new)
    count = sum(len(list(path.glob("*.jsonl"))) for path in models)
    return [f"{count} prediction files"] if count else []


def _may_be_same(model: str, study: Study, old: Path, new: Path) -> bool:
    """Whether a model may be the same in two studies: one of `eval_models`, or the same weights."""
    if model in study.eval_models:
        return True
    weights = trained.recorded(model, new)
    return weights is not None and weights == trained.recorded(model, old)


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
