"""Scores one run under one model, and writes a line per item and seed.

Lines are appended and flushed as batches end, so a run that was killed goes on where it stopped.
Batches depend on the item list alone, so it ends with the same numbers as an undisturbed run.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from sm70lib.asking.prompts import Prompts
from sm70lib.asking.runs import Run
from sm70lib.evaluation.batches import Batch, batched, limit
from sm70lib.evaluation.lines import about_run, resume, seal, share
from sm70lib.models.backend import Backend, Local
from sm70lib.models.proof import PACKED
from sm70lib.records import children
from sm70lib.records.jsonlines import Asked, appending
from sm70lib.steps.steps import progress, write_json
from sm70lib.study.params import StudyError


def evaluate(
    backend: Backend,
    run: Run,
    path: Path,
    *,
    model_digest: str,
    batch_tokens: int = 2048,
    chat: bool = False,
    notes: dict[str, str] | None = None,
    prompts: Prompts | None = None,
    place: str = "",
) -> None:
    """Scores the items of a run, and goes on where an earlier attempt stopped.

    Args:
        backend: who answers.
        run: what is asked.
        path: the prediction file (JSON Lines, one line per item and seed); its `.meta.json` is
            written beside it.
        model_digest: what identifies the model (`Model.identity`).
        batch_tokens: tokens that a batch may have.
        chat: whether the model is asked in its chat template.
        notes: more entries for the `.meta.json`.
        prompts: the run's prompts, if they are there already.
        place: where the run stands among all, for the line of progress, such as `run 3 of 36`.

    Raises:
        StudyError: `path` holds predictions of another model, protocol version, item list or
            prompt; or shots would have to come from the test, which the protocol does not allow.
        OSError: the disk is full; the error names the file.
    """
    _check_shots(run)
    if prompts is None:
        prompts = Prompts(run, backend.tokenizer, chat)
    about = about_run(prompts, model_digest) | (notes or {}) | _way(backend, run)
    mine, rank, world = share(path)
    done = resume(path, mine, about, prompts)
    listed: dict[str, list] = {"skipped": [], "cut": []}
    batches = batched(
        prompts, backend.tokenizer, limit(backend, run), batch_tokens, listed, backend.rows
    )
    title = f"{path.parent.name} {run.name} {place}".rstrip()
    bar = progress(len(prompts), "item", title)
    with bar, appending(mine), open(mine, "a", encoding="utf-8") as file:
        bar.update(len(done))
        for number, batch in enumerate(batches):
            if number % world == rank:
                new_lines = _new_lines(batch, backend, run, done)
                file.write("".join(f"{json.dumps(line)}\n" for line in new_lines))
                file.flush()
                bar.update(len(new_lines))
            if children.notebook_gone():
                sys.exit(children.ORPHANED)  # the launcher ends the others
    if rank == 0:
        scored = {"n_scored": len(prompts) - len(listed["skipped"])}
        write_json(path.with_suffix(".meta.json"), about | listed | scored)
    if world == 1:
        seal(path)


def _new_lines(batch: Batch, backend: Backend, run: Run, done: set[Asked]) -> list[dict]:
    """The lines of a batch that are not there yet; it is scored whole, or not at all."""
    fresh = [prompt.key not in done for prompt, _ in batch.asked]
    if not any(fresh):
        return []
    start = time.perf_counter()
    found = batch.score(backend, run)
    seconds = round((time.perf_counter() - start) / len(found), 6)
    return [line | {"seconds": seconds} for line, new in zip(found, fresh) if new]


def _way(backend: Backend, run: Run) -> dict[str, str]:
    """What the `.meta.json` says of a model that is scored plainly, or that a server runs."""
    if isinstance(backend, Local) and (run.protocol.reads or backend.way == PACKED):
        return {}
    return {"way": backend.way}


def _check_shots(run: Run) -> None:
    """Raises StudyError if shots could only come from the test, and the protocol forbids that."""
    if run.shots and not run.pool and not run.protocol.shots_from_test:
        raise StudyError(
            f"{run.protocol.name} has no items to draw {run.shots} shots from for {run.benchmark}: "
            "set eval_shots to [0] or add the benchmark's own train or dev file"
        )
