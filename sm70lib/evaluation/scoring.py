"""Scores all runs under all models, in this process or in several.

Every item has its own line in a prediction file, so every number can be traced back to items.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from sm70lib.asking.asking import Prompts
from sm70lib.asking.runs import Run, runs
from sm70lib.corpus.templates import trained_in
from sm70lib.evaluation import leftout, predictions
from sm70lib.evaluation.candidates import Model, models
from sm70lib.evaluation.evaluating import evaluate
from sm70lib.evaluation.lines import about_run, finished, gather, lines
from sm70lib.evaluation.rescoring import rescore
from sm70lib.inspection.look import look_at_all
from sm70lib.models import loading
from sm70lib.models.backend import Local
from sm70lib.models.proof import PLAIN
from sm70lib.steps.steps import write_json
from sm70lib.study import memory
from sm70lib.study.params import ROOT, StudyError
from sm70lib.training.launch import launcher

# On a CPU, attention with shared heads needs no copy of their keys, with a mask or without.
os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", str(int(loading.device().type == "cpu")))


def score_all(p, asked: list[Run], folder: Path) -> None:
    """Scores every run under every model.

    All models are looked at before any time is spent on one. If there is too little memory for a
    model, it is not loaded: `left_out.json` records it, and 04 adds it when it runs again with more
    memory.

    Args:
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.

    Raises:
        StudyError: there is too little memory for every model; or an adapter was trained in another
            template than it would be asked in.
    """
    found = models(p, folder)
    for which in found:
        for run in asked:
            template_of(which, run)
    look_at_all(found, p)
    keep(found, asked, folder)
    scored = {which.name: score_model(which, p, asked, folder) for which in found}
    lacking = {name: lack for name, lack in scored.items() if lack}
    leftout.write(folder / "predictions", lacking)
    if len(lacking) == len(found) and not any(folder.glob("predictions/*/*.jsonl")):
        least = min(lack["needed_gb"] for lack in lacking.values())
        raise StudyError(
            "not one model can be scored here: the smallest needs "
            f"{memory.words(least)}; run 04 on a machine with more memory"
        )


def template_of(which: Model, run: Run) -> dict[str, str]:
    """The templates that the `.meta.json` names: asked in, and trained in.

    Returns:
        `asked_in`, and for an adapter `trained_in`; nothing, if the protocol uses no template.

    Raises:
        StudyError: the adapter was trained in another template than the study's is now.
    """
    if not run.protocol.in_template:
        return {}
    if which.chat:
        return {"asked_in": "its chat template"}
    asked = {"asked_in": run.template}
    if which.adapter is None:
        return asked
    trained = trained_in(which.adapter, run.template)
    return asked | {"trained_in": trained or "not known, its folder has no template.json"}


def keep(found: list[Model], asked: list[Run], folder: Path) -> None:
    """Keeps the prediction files of these models and runs that match, and moves others aside.

    Args:
        found: the models.
        asked: the runs.
        folder: the study's outputs.
    """
    # Processes that were killed have left parts behind.
    for part in sorted(folder.glob("predictions/*/*.part")):
        run_name = part.name.rsplit(".", 2)[0]
        gather(part.with_name(f"{run_name}.jsonl"))
    names = {run.name for run in asked}
    predictions.keep_asked(folder, {which.name: names for which in found})
    for which in found:
        places = _places(which, asked, folder)
        to_compare = [run for run in asked if predictions.may_match(folder, places[run])]
        if not to_compare:
            continue
        identity, tokenizer = which.identity(), loading.load_tokenizer(which.tokenizer)
        for run in to_compare:
            about = about_run(Prompts(run, tokenizer, which.chat), identity)
            predictions.keep_matching(folder, places[run], about)


def score_model(which: Model, p, asked: list[Run], folder: Path) -> dict | None:
    """Scores every run under one model, here or in the processes that `eval_launcher` starts.

    The model is not loaded if nothing is left to score.

    Args:
        which: the model.
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.

    Returns:
        None; or what is lacking, if there is too little memory even for batches of one prompt.
    """
    identity, tokenizer = which.identity(), loading.load_tokenizer(which.tokenizer)
    places = _places(which, asked, folder)
    prompts = {run: Prompts(run, tokenizer, which.chat) for run in asked}
    complete = []
    for run in asked:
        gather(places[run])
        complete.append(finished(places[run], prompts[run], identity))
    if all(complete) and predictions.again(folder, which.name).exists():
        return None
    tokens = leftout.batch_tokens(which, p)
    if tokens is None:
        return leftout.lack(which, p)
    if p.eval_launcher == "python":
        score_here(which, p, prompts, folder, identity, tokens)
    else:
        _launch(which, p, asked, folder, identity, tokens)
    return None


def score_here(
    which: Model, p, prompts: dict[Run, Prompts], folder: Path, identity: str, tokens: int
) -> None:
    """Scores what is left of every run in this process.

    One of several processes scores only its share. Then up to 64 items, but at most one in forty,
    are scored again, one at a time.

    Args:
        which: the model.
        p: the study's parameters.
        prompts: the runs with their prompts.
        folder: the study's outputs.
        identity: what identifies the model (`Model.identity`).
        tokens: tokens that a batch may have.
    """
    asked = list(prompts)
    places, tokenizer = _places(which, asked, folder), loading.load_tokenizer(which.tokenizer)
    loaded = loading.load(which.source, p if which.quantised else None, which.adapter)
    backend = Local(loaded, tokenizer, max(run.protocol.max_context for run in asked))
    _say_if_plain(which.name, backend, asked)
    for run in asked:
        gather(places[run])
        if finished(places[run], prompts[run], identity):
            continue
        evaluate(
            backend,
            run,
            places[run],
            model_digest=identity,
            batch_tokens=tokens,
            chat=which.chat,
            notes=template_of(which, run),
            prompts=prompts[run],
        )
    if os.environ.get("RANK", "0") == "0":
        scored = [run for run in asked if not run.protocol.reads]
        written = [(prompts[run], lines(places[run])) for run in scored]
        write_json(predictions.again(folder, which.name), rescore(backend, written))


def _say_if_plain(name: str, backend: Local, asked: list[Run]) -> None:
    """Prints why a model is scored plainly, which takes several times as long."""
    if not all(run.protocol.reads for run in asked) and backend.way == PLAIN:
        print(f"{name} is scored plainly, one option a pass: {backend.proof.reason}")


def _places(which: Model, asked: list[Run], folder: Path) -> dict[Run, Path]:
    """The prediction file of every run under one model."""
    return {run: folder / "predictions" / which.name / f"{run.name}.jsonl" for run in asked}


def _launch(which: Model, p, asked: list[Run], folder: Path, identity: str, tokens: int) -> None:
    """Starts `eval_launcher` with this module, and gathers the lines of its processes.

    Raises:
        StudyError: a process stopped with an error.
    """
    task = folder / "predictions" / which.name / "task.json"
    given = p.model_dump() | {"eval_batch_tokens": tokens}
    write_json(
        task, {"name": which.name, "folder": str(folder), "params": given, "identity": identity}
    )
    command = [*launcher(p.eval_launcher), "-m", "sm70lib.evaluation.scoring", str(task)]
    done = subprocess.run(command, cwd=ROOT, text=True, stderr=subprocess.PIPE)
    task.unlink()
    if done.returncode:
        raise StudyError(
            f"eval_launcher: scoring stopped with exit code {done.returncode}: "
            f"{_error_in(done.stderr)}; what is finished is kept, run 04 again"
        )
    for run in asked:
        gather(task.with_name(f"{run.name}.jsonl"))


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
    tokenizer = loading.load_tokenizer(which.tokenizer)
    asked = runs(p, folder / "data/benchmarks")
    prompts = {run: Prompts(run, tokenizer, which.chat) for run in asked}
    score_here(which, p, prompts, folder, about["identity"], p.eval_batch_tokens)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except StudyError as error:
        sys.exit(f"error: {error}")
