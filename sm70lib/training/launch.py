"""Starts training stages in processes of their own, and publishes what they leave."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pandas as pd

from sm70lib.study import keys
from sm70lib.study.params import StudyError
from sm70lib.study.steps import ROOT, digest, write_json

NO_SPACE = 28  # exit code of a trainer that could not write (errno ENOSPC)
KILLED = (-9, 137)  # exit codes of a trainer that was killed, as a machine does when memory is full
# What a trainer, or the launcher above it, says of an end for want of memory
NO_MEMORY = (
    "OutOfMemoryError",
    "out of memory",
    "MemoryError",
    "not enough memory",
    "Cannot allocate memory",
    "Signal 9 (SIGKILL)",
    "exitcode: -9",
    "exitcode  : -9",
)


def run(
    p,
    folder: Path,
    number: int,
    kind: str,
    watch: Callable[[pd.DataFrame], None] = lambda frame: None,
    seed: int | None = None,
) -> Path:
    """Trains stage `number` of kind `kind` below the study's `folder` and returns the stage's folder.

    It starts from the adapter of the stage before it, trained with the same `seed` (by default the first of
    `train_seeds`). Goes on from the last complete checkpoint; returns at once, without a process, where the
    stage is finished. `watch` gets the metrics so far (one row per logged step) every two seconds. Raises
    StudyError with the trainer's sentence when it fails, and where the folder holds something trained with
    other data or parameters.
    """
    stage = describe(p, folder, number, kind, p.train_seeds[0] if seed is None else seed)
    if finished(stage):
        watch(metrics(stage))
        return stage
    command = [*launcher(p.train_launcher), "-m", "sm70lib.training.train", str(stage)]
    environment = os.environ | {"SM70_NOTEBOOK": f"{socket.gethostname()}:{os.getpid()}"}
    with open(stage / "log.txt", "a") as log:
        written = log.tell()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        while process.poll() is None:
            time.sleep(2)
            watch(metrics(stage))
    if process.returncode != 0:
        said = (stage / "log.txt").read_bytes()[written:].decode(
            errors="replace"
        ).strip().splitlines() or ["no output"]
        why = (
            no_space(stage)
            if process.returncode == NO_SPACE
            else next((line for line in said if line.startswith("error: ")), said[-1])
        )  # launchers have the last word
        starved = any(mark in line for line in said for mark in NO_MEMORY)
        if process.returncode in KILLED or starved:
            why = f"memory ran out: {_less(p, folder, number, kind)} ({why})"
        raise StudyError(
            f"training stopped with exit code {process.returncode}: {why} "
            f"(all of it: {stage / 'log.txt'})"
        )
    watch(metrics(stage))
    return stage


def describe(p, folder: Path, number: int, kind: str, seed: int) -> Path:
    """Writes what the trainer's process is to do, `stage.json`, and returns the stage's folder.

    A finished stage is left as it is. Raises StudyError where the folder holds something else.
    """
    stage, before = (keys.stage_folder(p, folder, n, seed) for n in (number, number - 1))
    key = keys.of_stage(p, folder, number, seed)
    _require_same(stage, key)
    if not finished(stage):
        write_json(
            stage / "stage.json",
            {
                "study_folder": str(folder),
                "kind": kind,
                "number": number,
                "seed": seed,
                "key": key,
                "params": p.model_dump(),
                "start": str(before / "adapter") if number > 1 else None,
            },
        )
    return stage


def finished(stage: Path) -> bool:
    """Whether a stage's adapter is in place, and marked as whole."""
    return (stage / "done.json").exists() and (stage / "adapter").is_dir()


def _require_same(stage: Path, key: keys.Key) -> None:
    """Refuses to go on with a stage folder in which something else was trained."""
    # A folder of an earlier version has no key; that of 03 as a whole was looked at before.
    was = keys.read(stage / "stage.json").get("key", key)
    differs = keys.difference(was, key)
    if differs and (finished(stage) or any(stage.glob("checkpoint-*"))):
        raise StudyError(
            f"{stage} was trained with something else ({differs}), and nothing is trained "
            "over it: make 03 again (--fresh 03, which moves it aside), or give the new "
            "training a study of its own (-p study NAME --from OLD)"
        )


def _less(p, folder: Path, number: int, kind: str) -> str:
    """What the plan would change for this stage on this machine."""
    from sm70lib.models import budget, loading
    from sm70lib.study import memory

    base, there = loading.located(folder), memory.at_hand()
    needed = memory.rounded_up(budget.needed(base, p, kind, number > 1))
    change = budget.less(base, p, there.gb * memory.GB, kind, number > 1)
    return (
        f"{kind} needs {memory.words(needed)} by the plan, and there are "
        f"{memory.words(there.gb)} in {there.where}; {change}"
    )


def launcher(line: str) -> list[str]:
    """The command in front of `-m sm70lib.training.train`.

    It is looked for beside this interpreter first; `python` is this one.

    Raises StudyError where there is no such program.
    """
    words = shlex.split(line)
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    if not (
        found := shutil.which(
            words[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
    ):
        raise StudyError(
            f"train_launcher: there is no program {words[0]}; give python, torchrun or accelerate launch"
        )
    return [found, *words[1:]]


def metrics(stage: Path) -> pd.DataFrame:
    """What the trainer logged so far: step, loss, eval_loss (nats per target token), learning_rate, ..."""
    path = stage / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines if line.endswith("}")])


def publish(stage: Path, adapter: Path) -> None:
    """Copies a stage's adapter, whole, to where the next notebooks look for the study's last one."""
    if adapter.is_dir() and digest(adapter) == digest(stage / "adapter"):
        return
    scratch = adapter.with_name(f"{adapter.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(stage / "adapter", scratch)
    shutil.rmtree(adapter, ignore_errors=True)
    os.replace(scratch, adapter)


def no_space(stage: Path) -> str:
    """The sentence for a write that failed; said by the notebook too, as a full disk takes no log either."""
    return (
        f"error: writing below {stage} failed: free some space and run again; the last complete checkpoint is kept "
        "and goes on"
    )
