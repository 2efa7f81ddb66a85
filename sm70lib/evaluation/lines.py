"""The lines of a prediction file: written as answers come, gathered, and read again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from sm70lib.asking.prompts import Prompt, Prompts
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import items_digest
from sm70lib.evaluation import predictions
from sm70lib.evaluation.predictions import SEAL
from sm70lib.models.proof import require_numbers
from sm70lib.protocols import replies
from sm70lib.records import jsonlines
from sm70lib.steps.keys import read
from sm70lib.steps.steps import digest, write_json
from sm70lib.study.params import StudyError


def record(prompt: Prompt, run: Run, loglikelihoods: list[float]) -> dict:
    """One item's line, from the likelihoods of its options.

    Args:
        prompt: what was asked.
        run: what it belongs to.
        loglikelihoods: the log-likelihood of every option (nats), summed, or per token if the
            protocol says so.

    Returns:
        The line. `choice` is the option with the highest log-likelihood (acc), and `choice_norm`
        the one with the highest log-likelihood per character (acc_norm). If several options may be
        true, `mass` is the share of the options' probability that falls on the true ones.

    Raises:
        StudyError: a log-likelihood is NaN or plus infinity, or all are minus infinity.
    """
    item, several_right = prompt.item, run.protocol.right
    right = several_right(item) if several_right else [item.answer]
    scores = np.array(loglikelihoods)
    require_numbers(scores, f"item {item.id!r} of {run.name}")
    lengths = [max(1, len(answer.removeprefix(" "))) for answer in prompt.answers]
    choice = int(np.argmax(scores))
    norm = choice if run.protocol.per_token else int(np.argmax(scores / lengths))
    line = _line(prompt, run) | {
        "loglikelihoods": [round(value, 6) for value in loglikelihoods],
        "choice": choice,
        "choice_norm": norm,
        "gold": item.answer,
        "correct": choice in right,
        "correct_norm": norm in right,
        "parsed": None,
    }
    if several_right:
        probability = np.exp(scores - max(loglikelihoods))
        line["mass"] = round(probability[right].sum() / probability.sum(), 6)
    return line


def reply_record(prompt: Prompt, run: Run, texts: list[str]) -> dict:
    """One item's line, from what the model wrote (`texts`, one per sample).

    A reply that cannot be read is wrong, and its `choice` is None.
    """
    reads = run.protocol.reads
    assert reads is not None, "only a protocol that reads has written replies"
    choice = replies.vote([reads(text, prompt.item.options) for text in texts])
    right = choice == prompt.item.answer
    return _line(prompt, run) | {
        "loglikelihoods": None,
        "choice": choice,
        "choice_norm": choice,
        "gold": prompt.item.answer,
        "correct": right,
        "correct_norm": right,
        "parsed": texts,
    }


def _line(prompt: Prompt, run: Run) -> dict[str, Any]:
    """What every line begins with."""
    return {
        "item_id": prompt.item.id,
        "benchmark": run.benchmark,
        "protocol": run.protocol.name,
        "shots": run.shots,
        "seed": prompt.seed,
        "sample": 0,
        "prompt_digest": prompt.digest,
    }


def share(path: Path) -> tuple[Path, int, int]:
    """Where this process writes its lines of `path`.

    Returns:
        The file, the number of this process, and how many processes there are, as torchrun and
        accelerate set them. A single process writes to `path` itself.
    """
    rank = int(os.environ.get("RANK", 0))
    world = int(os.environ.get("WORLD_SIZE", 1))
    mine = path if world == 1 else path.with_suffix(f".{rank}.part")
    return mine, rank, world


def gather(path: Path) -> None:
    """Moves the whole lines that several processes left beside `path` into it.

    It prints what is wrong with the lines that it drops.
    One of several processes does nothing, since the others may still be writing.
    """
    if "RANK" in os.environ:
        return
    for part in sorted(path.parent.glob(f"{path.stem}.*.part")):
        have = jsonlines.mend(path)
        mine = jsonlines.read(part)
        jsonlines.say(part, mine.faults)
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for asked, line in mine.kept.items() if asked not in have)
        part.unlink()


def lines(path: Path) -> list[dict]:
    """The predictions in `path`, and those that this process wrote beside it."""
    mine, _, _ = share(path)
    files = [file for file in sorted({path, mine}) if file.exists()]
    return [json.loads(line) for file in files for line in file.open()]


def about_run(prompts: Prompts, model_digest: str) -> dict:
    """What a `.meta.json` says of its predictions: model, protocol, items and prompts."""
    run = prompts.run
    return {
        "model_digest": model_digest,
        "protocol": run.protocol.name,
        "protocol_version": run.protocol.version,
        "shots": run.shots,
        "items_digest": items_digest(run.items),
        "n_items": len(run.items),
        "prompts_digest": prompts.digest,
    }


def finished(path: Path, prompts: Prompts, model_digest: str) -> bool:
    """Whether `path` holds all its lines; lines that wait to be gathered do not count.

    A file of an earlier version has no seal: its lines are read, and 04 records what they are.

    Raises:
        StudyError: the lines are of another model, protocol version, item list or prompt.
    """
    if not path.exists():
        return False
    about = _same(path, about_run(prompts, model_digest))
    if about.get(SEAL):
        return about[SEAL] == digest(path)
    found = jsonlines.read(path)
    return found.whole and len(found.kept) == about.get("n_scored")


def seal(path: Path) -> None:
    """Writes the digest of a finished prediction file into the `.meta.json` beside it."""
    meta = path.with_suffix(".meta.json")
    write_json(meta, read(meta) | {SEAL: digest(path)})


def seal_gathered(path: Path, prompts: Prompts) -> None:
    """Seals a prediction file that several processes wrote, if all their lines were gathered.

    Args:
        path: the prediction file.
        prompts: what was asked.

    Raises:
        StudyError: lines are lacking, so the file is not finished.
    """
    there = len(jsonlines.mend(path))
    scored = read(path.with_suffix(".meta.json")).get("n_scored")
    if there != scored:
        wanted = len(prompts) if scored is None else scored
        raise StudyError(
            f"{path} holds {there} of {wanted} lines after eval_launcher ended: run 04 again, "
            "which scores what is lacking; processes on several machines must share one folder of "
            "outputs (SM70_OUTPUTS)"
        )
    seal(path)


def _same(path: Path, about: dict) -> dict:
    """The content of the `.meta.json` beside `path`, or {} if there is none.

    Raises:
        StudyError: it describes other predictions than `about`.
    """
    was = read(path.with_suffix(".meta.json"))
    for name in predictions.IDENTITY:
        there, now = was.get(name), about[name]
        if was and there != now:
            raise StudyError(
                f"{path} was made with another {name.replace('_', ' ')} ({there!s:.12} there, "
                f"{now!s:.12} now): score again with --fresh 04, or use another study name"
            )
    return was


def resume(path: Path, mine: Path, about: dict, prompts: Prompts) -> set[tuple[str, int]]:
    """Prepares a prediction file to be continued.

    A file without a `.meta.json` is begun again. Lines that cannot be kept are dropped (see
    `jsonlines`). A seal is taken off, as the file is under way again.

    Args:
        path: the prediction file.
        mine: where this process writes its lines (see `share`).
        about: what the `.meta.json` is to say.
        prompts: what is asked; lines of anything else are dropped.

    Returns:
        Item id and seed of every line that is there.

    Raises:
        StudyError: the file holds other predictions than `about` describes, or such that were
            scored in another way.
    """
    was = _same(path, about)
    if was and was.get("way") != about.get("way"):
        ways = [text.get("way", "packed") for text in (was, about)]
        raise StudyError(
            f"{path} was begun {ways[0]} and would be continued {ways[1]}, with other libraries "
            "or another machine: score again with --fresh 04, or use another study name"
        )
    if not was or SEAL in was:
        write_json(path.with_suffix(".meta.json"), about)
    if not was:
        path.unlink(missing_ok=True)
    wanted = {(prompts.run.items[place].id, seed) for place, seed in prompts.keys}
    done = [jsonlines.mend(each, wanted) for each in {path, mine}]
    return set().union(*done)
