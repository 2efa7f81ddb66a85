"""A new study takes over what another has made, where it would make the same (run --from STUDY).

Nothing moves out of the other study. Weights and Arrow files are shared by hard links, as they are
never written in place; the rest is copied.
"""

import os
import shutil
from pathlib import Path

from sm70lib.study import kept, keys, steps
from sm70lib.study.fields import Study
from sm70lib.study.files import holds, write_json
from sm70lib.study.keys import EVALUATION, TUNING, Key, difference, mark, outputs
from sm70lib.study.params import StudyError, rehearsal

SHARED = (".safetensors", ".arrow")
LEFT = shutil.ignore_patterns(
    "checkpoint-*", "lock", "*.part", "adapter.part", "task.json"
)  # of work under way


def require(study: str, lender: str) -> None:
    """Raises StudyError unless `lender` is another study that has made something."""
    if lender == study:
        raise StudyError(
            f"--from {lender} names the study itself: give the new one a name (-p study NAME)"
        )
    if rehearsal(lender):
        raise StudyError(f"--from {lender}: a rehearsal's models are stand-ins; name a real study")
    known = sorted(path.parent.name for path in outputs().glob("*/steps"))
    if lender not in known:
        raise StudyError(
            f"--from {lender}: there is no such study; "
            f"these have results: {', '.join(known) or 'none'}"
        )


def take_over(study: Study, lender: str, names: list[str]) -> None:
    """Takes over each step whose key agrees, in order, given those before; prints a line each.

    Where 03 does not agree, the stages that do; where 04 does not, its prediction files, of which
    04 keeps those that match. A step that the study has begun or finished itself is left alone.
    """
    old, new = outputs() / lender, outputs() / study.study
    for name in names:
        if mark(new, name) or mark(new, name, "begun"):
            print(f"{name}: {study.study} has its own", flush=True)
            continue
        now = keys.of_step(name, study)
        done, place = mark(old, name), _place(old, name, now)
        if place and _take_step(place, new, name, lender):
            print(f"{name}: taken over from {lender}", flush=True)
            continue
        part = _take_stages(study, old, new) if name == TUNING else []
        part = _take_predictions(old, new) if name == EVALUATION else part
        why = difference(done["key"], now) if done else f"not finished in {lender}"
        taken = f"; {', '.join(part)} taken over from {lender}" if part else ""
        print(f"{name}: not taken over ({why or 'not as it was written'}){taken}", flush=True)
    if any(mark(new, name) for name in names):
        steps.write_manifest(new)


def _place(old: Path, name: str, now: Key) -> Path | None:
    """Where a result of this key lies whole: in the study itself, or among what it replaced."""
    done = mark(old, name)
    agrees = done and not difference(done["key"], now)
    if agrees and all(holds(old / path, record) for path, record in done["outputs"].items()):
        return old
    return kept.stored(old, name, now)


def _take_step(place: Path, new: Path, name: str, lender: str) -> bool:
    """Copies a finished step, its mark last; False where something else lies in its place."""
    if not (done := mark(place, name)):
        return False  # half-made
    _copy(
        [path for path in kept.everything(place, name) if path != place / "steps" / name],
        place,
        new,
    )
    if not all(holds(new / path, record) for path, record in done["outputs"].items()):
        return False
    if merged := mark(place, name, "merged"):
        write_json(new / "steps" / name / "merged.json", merged)
    about = {
        "study": new.name,
        "parameters": done["parameters"] | {"study": new.name},
        "taken_from": lender,
    }
    write_json(new / "steps" / name / "done.json", done | about)
    return True


def _take_stages(study: Study, old: Path, new: Path) -> list[str]:
    """Copies every finished stage that this study would train alike; their names."""
    finished = [
        path.parent
        for pattern in ("stages/*", f"replaced/{TUNING}/*/stages/*")
        for path in sorted(old.glob(f"{pattern}/done.json"))
        if (path.parent / "adapter").is_dir()
    ]
    made = {place: keys.read(place / "stage.json").get("key") for place in finished}
    taken = []
    for seed in study.train_seeds:
        for number in range(1, len(study.train_stages) + 1):
            now = keys.of_stage(study, new, number, seed)
            alike = [place for place, key in made.items() if key and not difference(key, now)]
            target = keys.stage_folder(study, new, number, seed)
            if target.exists():
                continue
            if not alike:
                break  # what comes after starts from another adapter
            scratch = _scratch(new)
            shutil.copytree(alike[0], scratch / "stage", copy_function=_share, ignore=LEFT)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / "stage", target)
            scratch.rmdir()
            taken.append(target.name)
    return taken


def _take_predictions(old: Path, new: Path) -> list[str]:
    """Copies the prediction files of every model; how many, in words."""
    models = [path for path in sorted(old.glob("predictions/*")) if path.is_dir()]
    _copy(models, old, new)
    count = len([*new.glob("predictions/*/*.jsonl")])
    return [f"{count} prediction files"] if count else []


def _copy(paths: list[Path], start: Path, end: Path) -> None:
    """Copies paths of one study to the same places of another, where free, each whole."""
    wanted = [
        path.relative_to(start) for path in paths if not (end / path.relative_to(start)).exists()
    ]
    scratch = _scratch(end)
    for path in wanted:
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        if (start / path).is_dir():
            shutil.copytree(start / path, scratch / path, copy_function=_share, ignore=LEFT)
        else:
            _share(start / path, scratch / path)
    kept.move([scratch / path for path in wanted], scratch, end)
    shutil.rmtree(scratch)


def _scratch(study: Path) -> Path:
    """An empty folder in the study, where copies become whole before they move to their places."""
    scratch = study / "taking"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def _share(source: str | Path, target: str | Path) -> str | Path:
    """A hard link to weights or Arrow data where the disk has such, else a copy with its times."""
    if Path(source).suffix in SHARED:
        try:
            os.link(os.path.realpath(source), target)
            return target
        except OSError:  # another disk, or a file system without links
            pass
    return shutil.copy2(source, target)
