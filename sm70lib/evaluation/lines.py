"""The lines of a prediction file: written as answers come, gathered, and read again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from sm70lib.asking.asking import Prompt, Prompts
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import items_digest
from sm70lib.evaluation import predictions
from sm70lib.protocols import replies
from sm70lib.steps.steps import write_json
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
    """
    item, several_right = prompt.item, run.protocol.right
    right = several_right(item) if several_right else [item.answer]
    scores = np.array(loglikelihoods)
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

    One of several processes does nothing, since the others may still be writing.
    """
    if "RANK" in os.environ:
        return
    for part in sorted(path.parent.glob(f"{path.stem}.*.part")):
        drop_half_line(path)
        have = set(path.read_text().splitlines()) if path.exists() else set()
        with open(path, "a") as file:
            for line in part.read_text().splitlines(True):
                if line.endswith("\n") and line[:-1] not in have:
                    file.write(line)
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

    Raises:
        StudyError: the lines are of another model, protocol version, item list or prompt.
    """
    if not path.exists():
        return False
    scored = _same(path, about_run(prompts, model_digest)).get("n_scored")
    return path.read_bytes().count(b"\n") == scored


def _same(path: Path, about: dict) -> dict:
    """The content of the `.meta.json` beside `path`, or {} if there is none.

    Raises:
        StudyError: it describes other predictions than `about`.
    """
    meta = path.with_suffix(".meta.json")
    if not meta.exists():
        return {}
    was = json.loads(meta.read_text())
    for name in predictions.IDENTITY:
        there, now = was.get(name), about[name]
        if was and there != now:
            raise StudyError(
                f"{path} was made with another {name.replace('_', ' ')} ({there!s:.12} there, "
                f"{now!s:.12} now): score again with --fresh 04, or use another study name"
            )
    return was


def resume(path: Path, about: dict) -> set[tuple[str, int]]:
    """Prepares a prediction file to be continued.

    A file without a `.meta.json` is begun again. A last line that is only half written is cut.

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
    if not was:
        write_json(path.with_suffix(".meta.json"), about)
        path.unlink(missing_ok=True)
    drop_half_line(path)
    return keys(path)


def drop_half_line(path: Path) -> None:
    """Removes a last line that is only half written; nothing is done without a file."""
    if not path.exists():
        return
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)


def keys(path: Path) -> set[tuple[str, int]]:
    """Item id and seed of every line; none without a file."""
    if not path.exists():
        return set()
    records = [json.loads(line) for line in path.open()]
    return {(line["item_id"], line["seed"]) for line in records}
