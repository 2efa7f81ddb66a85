"""Scores all runs under all models, in this process or in several.

Every item has its own line in a prediction file, so every number can be traced back to items.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from sm70lib.asking.prompts import Prompts
from sm70lib.asking.runs import Run, runs
from sm70lib.evaluation import memory_check, predictions
from sm70lib.evaluation.candidates import Model, forget, models
from sm70lib.evaluation.lines import about_run, gather, seal_gathered
from sm70lib.evaluation.one_model import (
    askable,
    is_complete,
    places,
    prompts_of,
    require_server,
    require_templates,
    score_here,
)
from sm70lib.inspection.look import look_at_all
from sm70lib.records import children
from sm70lib.records.launching import launcher
from sm70lib.steps.steps import write_json
from sm70lib.study import memory
from sm70lib.study.params import ROOT, StudyError

TASK = "task.json"  # tells the processes of `eval_launcher` what to do
PER_REQUEST = 1024  # tokens of a served batch per request at once: a kill costs few requests


@contextmanager
def _alone() -> Iterator[None]:
    """Says that this process is none of several, whatever the environment of its user says.

    What its launcher starts is told anew which of several it is. The kernel has its environment
    back afterwards.
    """
    before = {name: os.environ.pop(name) for name in ("RANK", "WORLD_SIZE") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


@_alone()
def score_all(p, asked: list[Run], folder: Path) -> None:
    """Scores every run under every model.

    All models are looked at before any time is spent on one. If there is too little memory for a
    model, it is not loaded: `left_out.json` records it, and 04 adds it when it runs again with more
    memory. A server that cannot score options is asked only what is answered in writing.

    Args:
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.

    Raises:
        StudyError: there is too little memory for every model; or a model cannot be asked in the
            study's template, or was trained in another.
    """
    forget()
    found = models(p, folder)
    for which in found:
        require_templates(which, asked, p)
    look_at_all(found, p)
    keep(found, asked, folder)
    for which in found:
        require_server(which, asked, folder)
    put = {which.name: askable(which, asked) for which in found}
    total = sum(map(len, put.values()))
    lacking, before = {}, 0
    for which in found:
        lack = score_model(which, p, put[which.name], folder, (before, total))
        before += len(put[which.name])
        if lack:
            lacking[which.name] = lack
    memory_check.write(folder / "predictions", lacking)
    if len(lacking) == len(found) and not any(folder.glob("predictions/*/*.jsonl")):
        least = min(lack["needed_gb"] for lack in lacking.values())
        raise StudyError(
            "not one model can be scored here: the smallest needs "
            f"{memory.words(least)}; run 04 on a machine with more memory"
        )


def keep(found: list[Model], asked: list[Run], folder: Path) -> None:
    """Keeps the prediction files of these models and runs that match, and moves others aside.

    Args:
        found: the models.
        asked: the runs.
        folder: the study's outputs.
    """
    # Processes that were killed have left tasks and parts behind.
    for task in folder.glob(f"predictions/*/{TASK}"):
        task.unlink()
    for part in sorted(folder.glob("predictions/*/*.part")):
        run_name = part.name.rsplit(".", 2)[0]
        gather(part.with_name(f"{run_name}.jsonl"))
    names = {which.name: {run.name for run in askable(which, asked)} for which in found}
    predictions.keep_asked(folder, names)
    for which in found:
        files = places(which, asked, folder)
        to_compare = [run for run in asked if predictions.may_match(folder, files[run])]
        if not to_compare:
            continue
        identity, tokenizer = which.identity(), which.tokenizer()
        for run in to_compare:
            about = about_run(Prompts(run, tokenizer, which.chat), identity) | which.configured()
            predictions.keep_matching(folder, files[run], about)


def score_model(
    which: Model, p, asked: list[Run], folder: Path, place: tuple[int, int] = (0, 0)
) -> dict | None:
    """Scores every run under one model, here or in the processes that `eval_launcher` starts.

    The model is not loaded if nothing is left to score.

    Args:
        which: the model.
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.
        place: how many runs other models have before, and how many runs there are.

    Returns:
        None; or what is lacking, if there is too little memory even for batches of one prompt.
    """
    prompts = prompts_of(which, asked)
    if is_complete(which, prompts, folder):
        return None
    if which.server:  # it cuts its own batches; here they only keep it busy
        batch = which.server.at_once * PER_REQUEST
        score_here(which, p, prompts, folder, batch, which.identity(), place)
        return None
    tokens = memory_check.batch_tokens(which, p)
    if tokens is None:
        return memory_check.memory_shortfall(which, p)
    if p.eval_launcher == "python":
        score_here(which, p, prompts, folder, tokens, which.identity(), place)
    else:
        _launch(which, p, prompts, folder, tokens)
    return None


def _launch(which: Model, p, prompts: dict[Run, Prompts], folder: Path, tokens: int) -> None:
    """Starts `eval_launcher` with this module, and gathers the lines of its processes.

    Raises:
        StudyError: a process stopped with an error, or lines of a process are not there.
    """
    task = folder / "predictions" / which.name / TASK
    given = p.model_dump() | {"eval_batch_tokens": tokens}
    about = {"name": which.name, "folder": str(folder), "params": given}
    command = [*launcher(p.eval_launcher), "-m", "sm70lib.evaluation.scoring", str(task)]
    # Every process would read all weights to find the identity.
    write_json(task, about | {"identity": which.identity()})
    try:
        exit_code, said = _ended(command)
    finally:
        task.unlink(missing_ok=True)
    if exit_code:
        raise StudyError(
            f"eval_launcher: scoring stopped with exit code {exit_code}: "
            f"{_error_in(said)}; what is finished is kept, run 04 again"
        )
    files = places(which, list(prompts), folder)
    for path in files.values():
        gather(path)
    for run, path in files.items():
        seal_gathered(path, prompts[run])


def _ended(command: list[str]) -> tuple[int, str]:
    """Runs processes to their end, or ends them with this one: exit code and stderr."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=children.environment(), text=True, stderr=subprocess.PIPE
    )
    with children.ended_with_us(process):
        _, said = process.communicate()
    return process.returncode, said


def _error_in(stderr: str) -> str:
    """Our own error line, as the launcher writes more lines after it; else the last line."""
    output = stderr.strip().splitlines() or ["no output"]
    errors = [line for line in output if line.startswith("error: ")]
    return errors[0] if errors else output[-1]


def main(task: Path) -> None:
    """Runs as one of several processes, and scores its share of the batches.

    Args:
        task: the JSON file that `_launch` wrote.
    """
    about = json.loads(task.read_text())
    p, folder = SimpleNamespace(**about["params"]), Path(about["folder"])
    (which,) = [model for model in models(p, folder) if model.name == about["name"]]
    prompts = prompts_of(which, runs(p, folder / "data/benchmarks"))
    score_here(which, p, prompts, folder, p.eval_batch_tokens, about["identity"])


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except StudyError as error:
        sys.exit(f"error: {error}")
