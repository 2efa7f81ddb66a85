"""Steps killed while they write, mark, move aside and bring back: toy steps, and the real library.

The seven toy steps compute nothing, so nearly every moment is one in which files are written, marks
are set or results are moved.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from pathlib import Path

from sm70lib import report
from sm70lib.steps import replaced, steps
from sm70lib.study import provenance
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Ended, Forked, killed_at_random
from tests.faults.campaign.trials import LOST, Trial, after, content, differing
from tests.toy import Made, Toy

TOPS = ("base", "data", "memory.csv", "adapter", "predictions", "tables", "figures")
LEAVE = "adapter_config.json|copy of "  # the toy writes its process into the first
TUNING = "03_qlora_finetune"
RENAMES = 120  # that the work of one trial has, about
ROUNDS = 6  # of one trial: each changes a value, so that results move aside and come back


def toy_in(folder: Path) -> Toy:
    """The toy study in a folder: a new one, or the one that is there."""
    if not (folder / "notebooks").exists():
        return Toy(folder)
    toy = Toy.__new__(Toy)
    toy.folder, toy.file, toy.study = folder, folder / "tiny.yml", folder / "outputs/tiny"
    names = ("notebooks", "outputs")
    toy.environment = {f"SM70_{name.upper()}": str(folder / name) for name in names}
    return toy


def finish(folder: Path) -> None:
    """Makes what is not finished of a toy study, as a runner would, and checks what report reads.

    What is found damaged by a reader is named, and the same command makes it again.
    """
    toy = toy_in(folder)
    os.environ.update(toy.environment)
    provenance._commit = lambda: None  # git takes longer than a step
    made = Made(toy)
    made.all(again=(TUNING,))
    report._require_as_written(toy.study)
    print(json.dumps({"trained": made.ran[TUNING]}))


def make_finished(folder: Path) -> None:
    toy_in(folder)
    Forked(finish, folder, log=folder / "log.txt").end()


def _there_and_back(folder: Path, renames: int = 0) -> None:
    """Gives parameters other values and back, as a user does who tries variants with --fresh.

    Args:
        folder: Where the toy study is.
        renames: Kills this process before so many files or folders are renamed; 0 lets it end.
    """
    toy = toy_in(folder)
    if renames:
        _killed_at_rename(renames)
    os.environ.update(toy.environment)
    provenance._commit = lambda: None
    made = Made(toy)
    for turn in range(ROUNDS):
        name, values = (("lora_r", (8, 16)), ("figures_dpi", (100, 150)))[turn // 2 % 2]
        toy.change(name, values[turn % 2])
        if replaced.judge(TUNING, made.study).what == "refuses":
            replaced.make_anew(TUNING, made.study)
        made.all(again=(TUNING,))


def _killed_at_rename(number: int) -> None:
    """Has this process killed just before it renames for the nth time."""
    rename, left = os.replace, [number]

    def counted(*given) -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*given)

    os.replace = counted


def killed_from_scratch(draw: random.Random, place: Place) -> Trial:
    """Kills a toy study at a random moment of its first run."""
    whole = place.kept("toy", make_finished)
    ended = _undisturbed(place, whole, "first")
    Toy(place.folder / "study")

    def start() -> Forked:
        shutil.rmtree(place.folder / "study/outputs", ignore_errors=True)
        return Forked(finish, place.folder / "study", log=place.folder / "log.txt")

    first = killed_at_random(start, ended.lasted, draw)
    return _again(place, first, whole)


def killed_in_a_move(draw: random.Random, place: Place) -> Trial:
    """Kills a finished toy study while results are moved aside and brought back."""
    whole = place.kept("toy", make_finished)
    ended = _undisturbed(place, whole, "moves")
    study = place.folder / "study"

    def start() -> Forked:
        shutil.rmtree(study, ignore_errors=True)
        shutil.copytree(whole, study)
        return Forked(_there_and_back, study, log=place.folder / "log.txt")

    if draw.random() < 0.5:
        first = killed_at_random(start, ended.lasted, draw)
    else:
        shutil.copytree(whole, study)
        given = (study, draw.randint(1, RENAMES))
        first = Forked(_there_and_back, *given, log=place.folder / "log.txt").end()
    weights = content(study / "outputs/tiny", ("adapter", "replaced"), "json$")
    toy = toy_in(study)
    shutil.copy(whole / "tiny.yml", toy.file)
    trial = _again(place, first, whole)
    if '"trained": 1' in (place.folder / "again.txt").read_text():
        return Trial(LOST, trial.seconds, note="what was trained is trained again")
    after_it = set(content(study / "outputs/tiny", ("adapter", "replaced"), "json$").values())
    gone = [name for name, sha in weights.items() if "weights" in name and sha not in after_it]
    return Trial(LOST, note=f"gone: {gone}") if gone else trial


def _undisturbed(place: Place, whole: Path, name: str) -> Ended:
    """How long the work takes undisturbed; measured once."""

    def measure(folder: Path) -> None:
        study = folder / "study"
        if name == "first":
            Toy(study)
        else:
            shutil.copytree(whole, study)
        call = finish if name == "first" else _there_and_back
        ended = Forked(call, study, log=folder / "log.txt").end()
        assert ended.code == 0, ended.said
        steps.write_json(folder / "lasted.json", ended.lasted)

    folder = place.kept(f"toy {name}", measure)
    return Ended(0, "", 0, json.loads((folder / "lasted.json").read_text()))


def _again(place: Place, first: Ended, whole: Path) -> Trial:
    """Finishes a killed toy study, and compares."""
    study, seconds = place.folder / "study", 0.0
    again = first
    for _ in range(3):  # a reader may name what is damaged; the same command goes on then
        again = Forked(finish, study, log=place.folder / "again.txt").end()
        seconds += again.seconds
        if again.code == 0:
            break
    there = content(study / "outputs/tiny", TOPS, LEAVE)
    other = differing(there, content(whole / "outputs/tiny", TOPS, LEAVE))
    trial = after(first, again, other, killed=True)
    return Trial(trial.outcome, seconds, note=trial.note)
