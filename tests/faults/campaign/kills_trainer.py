"""Trainers killed at random moments: an adapter, all weights, preferences, and two ranks."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from sm70lib.steps.steps import write_json
from sm70lib.training import launch
from sm70lib.training import train as trainer
from tests import small, tuning
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Forked, Process, killed_at_random
from tests.faults.campaign.trials import (
    LOST,
    SURVIVED,
    Trial,
    after,
    content,
    differing,
)

SAVED = 3  # steps from checkpoint to checkpoint
ADAPTER = {"sft_steps": 18, "lora_dropout": 0.1, "train_save_steps": SAVED}
WHOLE = {
    "train_parameters": "full",
    "quant_type": "none",
    "sft_lr": 1e-3,
    "sft_steps": 15,
    "sft_scheduler": "cosine",
    "sft_min_lr": 0.1,
    "train_save_steps": SAVED,
}
PAIRS = {"train_stages": ["dpo"], "dpo_steps": 12, "dpo_lr": 1e-3, "train_save_steps": SAVED}
RANKS = {
    "sft_steps": 9,
    "sft_batch_size": 4,
    "train_micro_batch_size": 1,
    "train_launcher": "torchrun --standalone --nproc_per_node 2",
}
TOPS = ("stages/*/adapter", "stages/*/model", "stages/*/metrics.jsonl")
LEAVE = r"README\.md"


def adapter(draw: random.Random, place: Place) -> Trial:
    """Kills the trainer of an adapter."""
    return _killed("adapter", ADAPTER, "sft", draw, place)


def whole(draw: random.Random, place: Place) -> Trial:
    """Kills the trainer of all weights."""
    return _killed("whole", WHOLE, "sft", draw, place)


def preferences(draw: random.Random, place: Place) -> Trial:
    """Kills the trainer of a round of preferences."""
    return _killed("preferences", PAIRS, "dpo", draw, place)


def train_here(folder: Path, changes: dict[str, Any], kind: str) -> None:
    """Trains one stage as the trainer's process does."""
    p = small.parameters(**changes)
    stage = launch.write_description(p, folder, 1, kind, 0)
    trainer.main(stage)


def train_as_notebook(folder: Path, changes: dict[str, Any]) -> None:
    """Trains one stage as the notebook does, in processes of its own."""
    launch.run(small.parameters(**changes), folder, 1, "sft")


def _killed(
    name: str, changes: dict[str, Any], kind: str, draw: random.Random, place: Place
) -> Trial:
    """Kills a trainer once or twice, lets it end, and compares weights and metrics."""

    def make(folder: Path) -> None:
        prepare = tuning.staged if kind == "dpo" else tuning.study
        given = {"changes": changes, "folder": folder / "start", "prepare": prepare}
        assert Forked(_prepare, SimpleNamespace(**given), log=folder / "0.txt").end().code == 0
        shutil.copytree(folder / "start", folder / "whole")
        ended = Forked(train_here, folder / "whole", changes, kind, log=folder / "1.txt").end()
        assert ended.code == 0, ended.said
        write_json(folder / "lasted.json", ended.lasted)

    kept = place.kept(f"trainer {name}", make)
    lasts, study = json.loads((kept / "lasted.json").read_text()), place.folder / "study"
    kills = 1 + (draw.random() < 0.3)
    for number in range(kills):

        def start(first: bool = number == 0) -> Process:
            if first:
                shutil.rmtree(study, ignore_errors=True)
                shutil.copytree(kept / "start", study)
            return Forked(train_here, study, changes, kind, log=place.folder / f"{first}.txt")

        ended = killed_at_random(start, lasts, draw)
    before = _steps(study)
    again = Forked(train_here, study, changes, kind, log=place.folder / "again.txt").end()
    other = differing(content(study, TOPS, LEAVE), content(kept / "whole", TOPS, LEAVE))
    judged = after(ended, again, other, killed=True)
    cost = max([step for step, _ in before], default=0) - _gone_on_from(before, _steps(study))
    if judged.outcome == SURVIVED and cost > SAVED:
        return Trial(LOST, again.seconds, cost, f"{cost} steps were trained again")
    return Trial(judged.outcome, again.seconds, cost, judged.note)


def _prepare(given: SimpleNamespace) -> None:
    given.folder.mkdir(parents=True)
    given.prepare(given.folder, **given.changes)


def _steps(study: Path) -> list[tuple[int, float]]:
    """Step and seconds of every whole line of the metrics that tells a loss of training."""
    paths = list(study.glob("stages/*/metrics.jsonl"))
    lines = paths[0].read_text().splitlines(keepends=True) if paths else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [(record["step"], record["seconds"]) for record in records if "loss" in record]


def _gone_on_from(before: list[tuple[int, float]], now: list[tuple[int, float]]) -> int:
    """The last step that was not taken again: its record is the one of the killed process.

    Args:
        before: Steps and seconds when the process was killed.
        now: Steps and seconds at the end; a step that was taken again has other seconds.
    """
    return max((step for step, _ in {*before} & {*now}), default=0)


def ranks(draw: random.Random, place: Place) -> Trial:
    """Kills one of two ranks that torchrun has started."""

    def make(folder: Path) -> None:
        given = {"changes": RANKS, "folder": folder / "start", "prepare": tuning.study}
        assert Forked(_prepare, SimpleNamespace(**given), log=folder / "0.txt").end().code == 0
        shutil.copytree(folder / "start", folder / "whole")
        ended = Forked(train_as_notebook, folder / "whole", RANKS, log=folder / "1.txt").end()
        assert ended.code == 0, ended.said
        write_json(folder / "lasted.json", ended.lasted)

    kept = place.kept("ranks", make)
    lasts, study = json.loads((kept / "lasted.json").read_text()), place.folder / "study"

    def start() -> Process:
        shutil.rmtree(study, ignore_errors=True)
        shutil.copytree(kept / "start", study)
        return Forked(train_as_notebook, study, RANKS, log=place.folder / "log.txt")

    rank = draw.randrange(2)
    first = killed_at_random(start, lasts, draw, lambda process: _kill_rank(process, rank))
    again = Forked(train_as_notebook, study, RANKS, log=place.folder / "again.txt").end()
    other = differing(content(study, TOPS, LEAVE), content(kept / "whole", TOPS, LEAVE))
    return after(first, again, other)


def _kill_rank(process: Process, rank: int) -> None:
    """Kills one of the processes that train; torchrun itself, where none has started yet."""
    trains = []
    for each in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "sm70lib.training.train" in " ".join(each.cmdline()):
                trains.append((each.create_time(), each))
    launcher_first = [each for _, each in sorted(trains, key=lambda pair: pair[0])]
    if not launcher_first:
        process.kill()
        return
    with suppress(psutil.NoSuchProcess):
        launcher_first[min(1 + rank, len(launcher_first) - 1)].kill()
