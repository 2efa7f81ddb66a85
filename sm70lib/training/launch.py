"""Starts training stages in processes of their own, and publishes what they leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from sm70lib.parameters.stages import steps_of
from sm70lib.records import children
from sm70lib.records.launching import launcher
from sm70lib.steps import keys
from sm70lib.steps.compared import difference
from sm70lib.steps.steps import ROOT, write_json
from sm70lib.steps.trained import finished, mend
from sm70lib.study import files
from sm70lib.study.params import StudyError
from sm70lib.study.used import trained

NO_SPACE = 28  # exit code of a trainer that could not write (errno ENOSPC)
SECONDS = 2  # between two looks at a trainer's metrics
KILLED = (-9, 137)  # exit codes of a killed trainer: the system kills it when memory is full
# What a trainer, or the launcher that started it, prints when memory runs out
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
    """Trains one stage in a process of its own.

    The stage starts from what the stage before it has left, trained with the same seed. An
    interrupted stage goes on from its last complete checkpoint. A finished one returns at once.

    Args:
        p: The study's parameters.
        folder: The study's folder.
        number: The stage's number in `train_stages`, from 1.
        kind: A kind of stage, such as sft.
        watch: Receives the metrics so far, one row per logged step, every two seconds.
        seed: Seed of the training; by default the first of `train_seeds`.

    Returns:
        The stage's folder.

    Raises:
        StudyError: If training fails, with the trainer's own sentence; or if the folder holds
            something that was trained with other data or parameters.
    """
    seed = p.train_seeds[0] if seed is None else seed
    mend(folder, keys.stage_folder(p, folder, number, seed))
    stage = write_description(p, folder, number, kind, seed)
    if not finished(stage):
        exit_code, logged = _trained(p, stage, watch)
        if exit_code:
            raise StudyError(_ended(exit_code, logged, stage, _less(p, folder, number, kind)))
        _require_finished(stage, p.train_launcher)
    watch(metrics(stage))
    return stage


def _trained(p, stage: Path, watch: Callable[[pd.DataFrame], None]) -> tuple[int, str]:
    """Runs the trainer of a stage to its end, and shows its notes and metrics meanwhile.

    Returns:
        Its exit code, and what it has written into the stage's log.
    """
    command = [*launcher(p.train_launcher), "-m", "sm70lib.training.train", str(stage)]
    environment = children.environment()
    path = stage / "log.txt"
    with open(path, "a") as log:
        written = shown = log.tell()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        with children.ended_with_us(process):
            while children.runs(process, SECONDS):
                shown = children.show_notes(path, shown)
                watch(metrics(stage))
    children.show_notes(path, shown)
    said = path.read_bytes()[written:].decode(errors="replace")
    files.make_public(path)  # warnings of libraries name the files that they are in
    return process.returncode, said


def _require_finished(stage: Path, line: str) -> None:
    """Raises StudyError if a launcher has ended well, and the stage is not finished."""
    if not finished(stage):
        raise StudyError(
            f"train_launcher {line} ended without training: {stage} lacks what a finished stage "
            f"leaves (its words: {stage / 'log.txt'})"
        )


def _ended(exit_code: int, logged: str, stage: Path, remedy: str) -> str:
    """Why training stopped, in a sentence; `remedy` is what to do where memory ran out."""
    lines = logged.strip().splitlines() or ["no output"]
    why = _reason(exit_code, lines, stage)
    if exit_code in KILLED or any(mark in line for line in lines for mark in NO_MEMORY):
        why = f"memory ran out: {remedy} ({why})"
    return f"training stopped with exit code {exit_code}: {why} (all of it: {stage / 'log.txt'})"


def _reason(exit_code: int, lines: list[str], stage: Path) -> str:
    """Why a trainer stopped.

    Its own sentence is looked for first: a launcher prints more after it.
    """
    if exit_code == NO_SPACE:
        return no_space(stage)
    for line in lines:
        if line.startswith("error: "):
            return line
    for line in reversed(lines):
        if any(mark in line for mark in NO_MEMORY):
            return line.strip()
    for line in reversed(lines):
        if any(map(str.isalpha, line)):  # launchers draw a line of "=" below their words
            return line
    return lines[-1]


def write_description(p, folder: Path, number: int, kind: str, seed: int) -> Path:
    """Writes `stage.json`, which tells the trainer's process what to do.

    A finished stage is left as it is.

    Args:
        p: The study's parameters.
        folder: The study's folder.
        number: The stage's number in `train_stages`, from 1.
        kind: A kind of stage, such as sft.
        seed: Seed of the training.

    Returns:
        The stage's folder.

    Raises:
        StudyError: If the folder holds something that was trained with other data or parameters.
    """
    stage = keys.stage_folder(p, folder, number, seed)
    before = keys.stage_folder(p, folder, number - 1, seed)
    key = keys.of_stage(p, folder, number, seed)
    _require_same(stage, key)
    if not finished(stage):
        write_json(
            stage / "stage.json",
            {
                "kind": kind,
                "number": number,
                "seed": seed,
                "key": key,
                "params": p.model_dump() | {f"{kind}_steps": steps_of(p, number)},
                "start": f"{before.name}/{trained(p)}" if number > 1 else None,
            },
        )
        files.make_public(stage / "stage.json")
    return stage


def _require_same(stage: Path, key: keys.Key) -> None:
    """Raises StudyError if something else was trained in a stage's folder."""
    # A folder of an earlier version has no key. The key of step 03 was compared before.
    was = keys.key_in(stage / "stage.json") or key
    differs = difference(was, key)
    if differs and (finished(stage) or any(stage.glob("checkpoint-*"))):
        raise StudyError(
            f"{stage} was trained with something else ({differs}), and nothing is trained "
            "over it: make 03 again (--fresh 03, which moves it aside), or give the new "
            "training a study of its own (-p study NAME --from OLD)"
        )


def _less(p, folder: Path, number: int, kind: str) -> str:
    """What the plan would change so that the stage fits on this machine."""
    from sm70lib.models import loading
    from sm70lib.sizes import budget
    from sm70lib.study import memory

    base = loading.located(folder)
    there = memory.at_hand()
    needed = memory.rounded_up(budget.needed(base, p, kind, number > 1))
    change = budget.changes_to_fit(base, p, there.gb * memory.GB, kind, number > 1)
    return (
        f"{kind} needs {memory.words(needed)} by the plan, and there are "
        f"{memory.words(there.gb)} in {there.where}; {change}"
    )


def metrics(stage: Path) -> pd.DataFrame:
    """What the trainer has logged so far, one row per record; a line that is broken is left out.

    Columns are step, seconds and what was logged of `trained.LOGGED`, losses in nats per token.
    """
    path, rows = stage / "metrics.jsonl", []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return pd.DataFrame([row for row in rows if isinstance(row, dict) and "step" in row])


def publish(stage: Path, folder: Path) -> None:
    """Copies a stage's adapter to where the next notebooks look for the study's last one.

    A kill leaves no half-written copy there. A whole model is read where it is. `stage` is the
    folder of the last stage, and `folder` the study's.
    """
    adapter = folder / "adapter"
    if not (stage / "adapter").is_dir():
        return
    if adapter.is_dir() and files.alike(adapter, stage / "adapter"):
        return
    scratch = adapter.with_name(f"{adapter.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(stage / "adapter", scratch)
    shutil.rmtree(adapter, ignore_errors=True)
    os.replace(scratch, adapter)


def no_space(stage: Path) -> str:
    """The sentence for a failed write.

    The notebook uses it too, because a full disk does not take the trainer's log either.
    """
    return (
        f"error: writing below {stage} failed: free some space and run again; the last complete "
        "checkpoint is kept and goes on"
    )
