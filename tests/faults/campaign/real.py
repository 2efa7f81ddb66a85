"""A small real study: the seven notebooks by the runner, on a medicine of 18 conditions."""

from __future__ import annotations

import json
import time
from pathlib import Path

from sm70lib.study.params import ROOT
from tests.faults.campaign.processes import Started
from tests.faults.campaign.trials import content

NAME = "faults"
# The tiny study, as small as a rehearsal; the checkpoints of training are close to each other
CUTS = {
    "study": NAME,
    "world_conditions": 18,
    "base_steps": 30,
    "base_layers": 2,
    "data_holdout": 4,
    "sft_steps": 40,
    "sft_batch_size": 4,
    "train_micro_batch_size": 4,
    "train_save_steps": 5,
    "eval_benchmarks": "[medqa_4, pubmedqa]",
    "eval_protocols": "[sm70-2023, as-trained]",
    "eval_primary_benchmarks": "[medqa_4, pubmedqa]",
    "eval_limit": 30,
    "eval_own": "[base-nf4, tuned]",
    "figures_dpi": 50,
    "stats_resamples": 100,
}
STUDY = [
    str(ROOT / "params/tiny.yml"),
    *(word for name, value in CUTS.items() for word in ("-p", name, str(value))),
]
RUN = ("python", "-m", "sm70lib", "run", *STUDY)
REPORT = ("python", "-m", "sm70lib", "report", NAME)
# What a study leaves behind, step by step
MADE = {
    "00": ("base/model", "base/tokenizer", "base/world", "base/base.json"),
    "01": ("data/train", "data/holdout", "data/benchmarks", "data/*.csv"),
    "02": (),
    "03": ("adapter", "stages/*/adapter", "stages/*/metrics.jsonl"),
    "04": ("predictions/*/*.jsonl",),
    "05": ("tables/errors*",),
    "06": ("tables/*", "figures/*.png"),
}
# What is measured and not computed, or is written later by a command that only reads
LEAVE = r"copy of |README\.md|figures/(training|memory|pretraining)"


def environment(outputs: Path) -> dict[str, str | None]:
    """Where a study goes, and one thread for everything."""
    return {"SM70_OUTPUTS": str(outputs), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def make(folder: Path) -> None:
    """Makes the study undisturbed, step by step, and notes how long each step took."""
    lasted = {}
    for step in MADE:
        log = folder / f"{step}.txt"
        given = environment(folder / "outputs")
        ended = Started(*RUN, "--until", step, log=log, environment=given).end()
        assert ended.code == 0, ended.said
        lasted[step] = ended.lasted
    ended = Started(*REPORT, log=folder / "report.txt", environment=given).end()
    assert ended.code == 0, ended.said
    (folder / "lasted.json").write_text(json.dumps(lasted))
    time.sleep(0.1)


def content_of(outputs: Path, until: str = "06") -> dict[str, str]:
    """What the study holds, as far as a step."""
    steps = list(MADE)[: list(MADE).index(until) + 1]
    tops = [top for step in steps for top in MADE[step]]
    return content(outputs / NAME, tops, LEAVE)
