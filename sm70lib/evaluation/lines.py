"""Lines of a prediction file: made, kept as they come, and gathered."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from sm70lib.benchmarks import items_digest
from sm70lib.evaluation import predictions
from sm70lib.evaluation.asking import Prompt, Prompts
from sm70lib.evaluation.runs import Run
from sm70lib.protocols import replies
from sm70lib.study.params import StudyError
from sm70lib.study.steps import write_json


def record(prompt: Prompt, run: Run, loglikelihoods: list[float]) -> dict:
    """One item's prediction; `choice` by summed log-likelihood (acc), `choice_norm` per character (acc_norm).

    `mass` is the share of the options' probability that the true ones have, where several are true.
    """
    item, several = prompt.item, run.protocol.right
    right = several(item) if several else [item.answer]
    lengths = [max(1, len(answer.removeprefix(" "))) for answer in prompt.answers]
    choice, norm = (
        int(np.argmax(loglikelihoods)),
        int(np.argmax(np.array(loglikelihoods) / lengths)),
    )
    share = np.exp(np.array(loglikelihoods) - max(loglikelihoods))
    return _line(prompt, run) | {
        "loglikelihoods": [round(value, 6) for value in loglikelihoods],
        "choice": choice,
        "choice_norm": norm,
        "gold": item.answer,
        "correct": choice in right,
        "correct_norm": norm in right,
        "parsed": None,
        **({"mass": round(share[right].sum() / share.sum(), 6)} if several else {}),
    }


def reply_record(prompt: Prompt, run: Run, texts: list[str]) -> dict:
    """One item's prediction read out of what the model wrote; what cannot be read is wrong, and has no choice."""
    choice = replies.vote([run.protocol.reads(text, prompt.item.options) for text in texts])
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


def _line(prompt: Prompt, run: Run) -> dict:
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
    """Where this process writes, its number, and how many there are (as torchrun and accelerate say)."""
    rank, world = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1))
    )
    return (path if world == 1 else path.with_suffix(f".{rank}.part")), rank, world


def gather(path: Path) -> None:
    """Moves whole lines that several processes left beside `path` into it."""
    if "RANK" in os.environ:
        return
    for part in sorted(path.parent.glob(f"{path.stem}.*.part")):
        have = set(path.read_text().splitlines()) if whole_lines(path) else set()
        with open(path, "a") as file:
            file.writelines(
                line
                for line in part.read_text().splitlines(True)
                if line.endswith("\n") and line[:-1] not in have
            )
        part.unlink()


def lines(path: Path) -> list[dict]:
    """The predictions in `path` and in what this process wrote beside it."""
    there = [each for each in sorted({path, share(path)[0]}) if each.exists()]
    return [json.loads(line) for each in there for line in each.open()]


def about_run(prompts: Prompts, model_digest: str) -> dict:
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
    """Whether all lines are there; refuses those of something else."""
    gather(path)
    if not path.exists():
        return False
    scored = _same(path, about_run(prompts, model_digest)).get("n_scored")
    return path.read_bytes().count(b"\n") == scored


def _same(path: Path, about: dict) -> dict:
    """What stands beside `path` ({} if nothing); raises StudyError where it tells of something else."""
    meta = path.with_suffix(".meta.json")
    was = json.loads(meta.read_text()) if meta.exists() else {}
    for name in predictions.IDENTITY:
        if was and was[name] != about[name]:
            raise StudyError(
                f"{path} was made with another {name.replace('_', ' ')} ({was[name]!s:.12} there, "
                f"{about[name]!s:.12} now): score again with --fresh 04, or use another study name"
            )
    return was


def resume(path: Path, about: dict) -> set[tuple[str, int]]:
    """Ids and seeds already scored; cuts a last line that a kill left half-written."""
    if not _same(path, about):
        write_json(path.with_suffix(".meta.json"), about)
        path.unlink(missing_ok=True)
    return whole_lines(path)


def whole_lines(path: Path) -> set[tuple[str, int]]:
    if not path.exists():
        return set()
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    lines = map(json.loads, whole.splitlines())
    return {(line["item_id"], line["seed"]) for line in lines}
