"""Scores items under a protocol and keeps one JSON line per item, so that every number leads back to items.

Lines are appended and flushed as batches end; a killed run goes on where it stopped, and because batches
depend on the item list alone, it ends with the very numbers of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

from sm70lib.corpus.templates import trained_in
from sm70lib.evaluation import leftout, predictions
from sm70lib.evaluation.asking import Prompts
from sm70lib.evaluation.batches import batched, limit
from sm70lib.evaluation.candidates import Model, models
from sm70lib.evaluation.lines import about_run, finished, gather, lines, resume, share, whole_lines
from sm70lib.evaluation.rescoring import rescore
from sm70lib.evaluation.runs import Run, runs
from sm70lib.models import loading, local
from sm70lib.study import memory
from sm70lib.study.params import ROOT, StudyError
from sm70lib.study.steps import progress, write_json
from sm70lib.training.launch import launcher

# A CPU needs no copy of the keys that heads share, masked or not.
os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", str(int(loading.device().type == "cpu")))


def score_all(p, asked: list[Run], folder: Path) -> None:
    """Scores every run under every model; all are looked for before any time is spent on one.

    A model for which there is not memory enough is not loaded: `left_out.json` records it, and
    where there is more, 04 runs again and adds it. Raises StudyError where there is enough for none,
    and where an adapter was trained in another template than it would be asked in.
    """
    found = models(p, folder)
    for which in found:
        for run in asked:
            template_of(which, run)
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
    """Where it is asked in a template: which one, and in which it was trained, for the meta file.

    Raises StudyError where an adapter's folder names another than the study's as it is now.
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
    """Leaves the prediction files of just these models and runs where they are, where they match."""
    for part in sorted(folder.glob("predictions/*/*.part")):  # of processes that were killed
        gather(part.with_name(f"{part.name.rsplit('.', 2)[0]}.jsonl"))
    predictions.keep_asked(folder, {which.name: {run.name for run in asked} for which in found})
    for which in found:
        places = _places(which, asked, folder)
        there = [run for run in asked if predictions.may_match(folder, places[run])]
        if there:
            identity, tokenizer = which.identity(), loading.load_tokenizer(which.source)
        for run in there:
            about = about_run(Prompts(run, tokenizer, which.chat), identity)
            predictions.keep_matching(folder, places[run], about)


def score_model(which: Model, p, asked: list[Run], folder: Path) -> dict | None:
    """Scores every run under one model, here or in the processes that `eval_launcher` starts.

    Nothing is loaded where nothing is left to score. Returns what is lacking where there is too
    little memory, even for batches of one prompt.
    """
    identity, tokenizer = which.identity(), loading.load_tokenizer(which.source)
    places = _places(which, asked, folder)
    whole = [finished(places[run], Prompts(run, tokenizer, which.chat), identity) for run in asked]
    if all(whole) and _again(which, folder).exists():
        return None
    if (tokens := leftout.batch_tokens(which, p)) is None:
        return leftout.lack(which, p)
    if p.eval_launcher == "python":
        score_here(which, p, asked, folder, identity, tokens)
    else:
        _launch(which, p, asked, folder, identity, tokens)
    return None


def score_here(which: Model, p, asked: list[Run], folder: Path, identity: str, tokens: int) -> None:
    """Scores what is left of every run in this process, or its share of it where there are several.

    64 items, but no more than one in forty, are then scored again, one at a time. `tokens` is the size of a batch.
    """
    places, tokenizer = _places(which, asked, folder), loading.load_tokenizer(which.source)
    loaded = loading.load(which.source, p if which.quantised else None, which.adapter)
    for run in asked:
        if not finished(places[run], Prompts(run, tokenizer, which.chat), identity):
            evaluate(
                loaded,
                tokenizer,
                run,
                places[run],
                model_digest=identity,
                batch_tokens=tokens,
                chat=which.chat,
                notes=template_of(which, run),
            )
    if os.environ.get("RANK", "0") == "0":
        written = {run: lines(places[run]) for run in asked if not run.protocol.reads}
        write_json(_again(which, folder), rescore(loaded, tokenizer, written, which.chat))


def _places(which: Model, asked: list[Run], folder: Path) -> dict[Run, Path]:
    return {run: folder / "predictions" / which.name / f"{run.name}.jsonl" for run in asked}


def _again(which: Model, folder: Path) -> Path:
    return folder / "predictions" / which.name / predictions.RESCORED


def _launch(which: Model, p, asked: list[Run], folder: Path, identity: str, tokens: int) -> None:
    """Starts `eval_launcher` with this module, once the places of its lines are known to be right."""
    task = folder / "predictions" / which.name / "task.json"
    given = p.model_dump() | {"eval_batch_tokens": tokens}
    write_json(
        task, {"name": which.name, "folder": str(folder), "params": given, "identity": identity}
    )
    command = [*launcher(p.eval_launcher), "-m", "sm70lib.evaluation.scoring", str(task)]
    done = subprocess.run(command, cwd=ROOT, text=True, stderr=subprocess.PIPE)
    task.unlink()
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no output"]
        why = next(
            (line for line in said if line.startswith("error: ")), said[-1]
        )  # launchers have the last word
        raise StudyError(
            f"eval_launcher: scoring stopped with exit code {done.returncode}: {why}; what is "
            "finished is kept, run 04 again"
        )
    for run in asked:
        gather(task.with_name(f"{run.name}.jsonl"))


def main(task: Path) -> None:
    """One of several processes: scores its share of the batches that `task` describes."""
    about = json.loads(task.read_text())
    p, folder = SimpleNamespace(**about["params"]), Path(about["folder"])
    (which,) = [one for one in models(p, folder) if one.name == about["name"]]
    asked = runs(p, folder / "data/benchmarks")
    score_here(which, p, asked, folder, about["identity"], p.eval_batch_tokens)


# ---- lines, as they come ----------------------------------------------------------------------------


def evaluate(
    loaded,
    tokenizer,
    run: Run,
    path: Path,
    *,
    model_digest: str,
    batch_tokens: int = 2048,
    chat: bool = False,
    notes: dict[str, str] | None = None,
) -> None:
    """Scores the items of `run` and writes `path` (JSON Lines, one per item and seed) with its `.meta.json`.

    Goes on where an earlier run stopped. Raises StudyError when `path` holds predictions of another model,
    protocol version, item list or prompt, or when shots would have to come from the test where the protocol
    does not allow that. `notes` also go into `.meta.json`.
    """
    if run.shots and not run.pool and not run.protocol.shots_from_test:
        raise StudyError(
            f"{run.protocol.name} has no items to draw {run.shots} shots from for {run.benchmark}: "
            "set eval_shots to [0] or add the benchmark's own train or dev file"
        )
    prompts = Prompts(run, tokenizer, chat)
    about = about_run(prompts, model_digest) | (notes or {})
    mine, rank, world = share(path)
    done = resume(path, about) | (whole_lines(mine) if world > 1 else set())
    listed: dict[str, list] = {"skipped": [], "cut": []}
    remember = lru_cache(maxsize=1)(lambda common: local.remember(loaded, common))
    with (
        open(mine, "a") as file,
        progress(len(prompts), "item", f"{path.parent.name} {run.name}") as bar,
    ):
        bar.update(len(done))
        for number, batch in enumerate(
            batched(prompts, tokenizer, limit(loaded, run), batch_tokens, listed)
        ):
            fresh = [prompt.key not in done for prompt, _ in batch.asked]
            if any(fresh) and number % world == rank:
                start, found = time.perf_counter(), batch.score(loaded, tokenizer, run, remember)
                seconds = round((time.perf_counter() - start) / len(found), 6)
                lines = [
                    json.dumps(line | {"seconds": seconds})
                    for line, new in zip(found, fresh)
                    if new
                ]
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                bar.update(sum(fresh))
    if rank == 0:
        write_json(
            path.with_suffix(".meta.json"),
            about | listed | {"n_scored": len(prompts) - len(listed["skipped"])},
        )


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except StudyError as error:
        sys.exit(f"error: {error}")
