"""A real study, killed at random moments: the runner, a kernel, the trainer, or all at once."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.campaign import real
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Process, Started, killed_at_random
from tests.faults.campaign.trials import (
    LOST,
    Trial,
    after,
    differing,
    last_words,
)

# Steps in the order in which trials take them: training and scoring most often; "" is all of them
STEPS = ("03", "04", "00", "01", "03", "04", "06", "03", "05", "04", "02", "")


def kernel(process: Process) -> None:
    """Kills the kernel, as the system does when memory is full."""
    _end("ipykernel", process) or process.kill(group=False)


def trainer(process: Process) -> None:
    """Kills the trainer; the kernel, where none is at work."""
    _end("sm70lib.training.train", process) or kernel(process)


def runner(process: Process) -> None:
    """Kills the runner alone, so that its kernel is left behind."""
    process.kill(group=False)


def everything(process: Process) -> None:
    """Kills all at once, as when the power fails."""
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for each in below:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def stopped(process: Process) -> None:
    """Ends the runner politely, as a cluster's scheduler does."""
    process.kill(signal.SIGTERM, group=False)


def interrupted(process: Process) -> None:
    """Sends Ctrl-C to all in the terminal."""
    process.kill(signal.SIGINT)


KILLS = (trainer, kernel, everything, runner, stopped, interrupted)
SILENTLY = (everything, runner)  # nobody is left who could say a sentence


def _end(module: str, process: Process) -> bool:
    """Kills a child that runs a module; whether there is one."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any(module in word for word in child.cmdline()):
                child.kill()
                return True
    return False


def trial(draw: random.Random, place: Place) -> Trial:
    """Kills a study in one step, or anywhere from the beginning to the end."""
    whole = place.kept("real", real.make)
    lasted = json.loads((whole / "lasted.json").read_text())
    step, kill = draw.choice(STEPS), draw.choice(KILLS)
    outputs = place.folder / "outputs"
    until = step or "06"
    words = (*real.RUN, "--until", until)
    lasts = lasted[step] if step else sum(lasted.values())

    def start() -> Process:
        shutil.rmtree(outputs, ignore_errors=True)
        if step:
            shutil.copytree(whole / "outputs", outputs, symlinks=True)
            forget(outputs / real.NAME, step)
        log = place.folder / "log.txt"
        return Started(*words, log=log, environment=real.environment(outputs))

    first = killed_at_random(start, lasts, draw, _carefully(kill))
    before = _finished_stages(outputs)
    log, given = place.folder / "again.txt", real.environment(outputs)
    again = Started(*words, log=log, environment=given).end()
    done = f"{kill.__name__} in {step or 'the whole study'}"
    wanted = real.content_of(whole / "outputs", until)
    other = differing(real.content_of(outputs, until), wanted)
    # Before there is a kernel, the runner is killed in its place, and nobody is left to speak.
    speechless = kill in SILENTLY or first.code == -signal.SIGKILL
    judged = after(first, again, other, speechless)
    if before - _finished_stages(outputs):
        return Trial(LOST, again.seconds, note=f"{done}: a finished stage was trained again")
    note = f"{done}: {judged.note or last_words(first)}"
    return Trial(judged.outcome, again.seconds, note=note[:300])


def _carefully(kill: Callable[[Process], None]) -> Callable[[Process], None]:
    """A kill of a process that may end meanwhile."""

    def kill_it(process: Process) -> None:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            kill(process)

    return kill_it


def forget(folder: Path, step: str) -> None:
    """Takes away what a step and those after it have left."""
    for each in list(real.MADE)[list(real.MADE).index(step) :]:
        for mark in folder.glob(f"steps/{each}_*"):
            shutil.rmtree(mark)
        for path in (path for top in TOPS[each] for path in folder.glob(top)):
            if each == "05" or not path.name.startswith("errors"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


TOPS = {
    "00": ("base",),
    "01": ("data",),
    "02": ("memory.csv",),
    "03": ("adapter", "stages"),
    "04": ("predictions",),
    "05": ("tables/errors*", "figures/errors*"),
    "06": ("tables/*", "figures/*"),
}


def _finished_stages(outputs: Path) -> set[tuple[str, int]]:
    """The marks of finished stages, with their time."""
    marks = (outputs / real.NAME).glob("stages/*/done.json")
    return {(str(path), path.stat().st_mtime_ns) for path in marks}
