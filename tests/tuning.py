"""A small study that is ready to be tuned, and its trainer."""

import subprocess
import sys
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file

from sm70lib.steps.steps import write_json
from sm70lib.study.params import ROOT
from sm70lib.training import launch
from sm70lib.training import train as trainer
from tests import small


def study(folder, **changes):
    """A base and forty rows of random tokens, as 00 and 01 leave them."""
    p = small.base(folder, **changes)
    generator = torch.Generator().manual_seed(0)
    rows = [
        {
            "input_ids": (ids := torch.randint(3, 500, (n,), generator=generator).tolist()),
            "labels": [-100] * 3 + ids[3:],
        }
        for n in range(10, 50)
    ]
    Dataset.from_list(rows[4:]).save_to_disk(folder / "data/train")
    Dataset.from_list(rows[:4]).save_to_disk(folder / "data/holdout")
    return p


def start(p, folder) -> subprocess.Popen:
    """The trainer's process, as `train.run` starts it."""
    stage = folder / "stages/1-sft"
    write_json(
        stage / "stage.json",
        {
            "study_folder": str(folder),
            "kind": "sft",
            "number": 1,
            "seed": 0,
            "start": None,
            "params": p.model_dump(),
        },
    )
    return subprocess.Popen(
        [sys.executable, "-m", "sm70lib.training.train", str(stage)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def weights(folder) -> dict[str, torch.Tensor]:
    """What the stage sft of a study has left: its adapter, or all weights."""
    if (folder / "stages/1-sft/model").is_dir():
        return load_file(folder / "stages/1-sft/model/model.safetensors")
    return load_file(folder / "stages/1-sft/adapter/adapter_model.safetensors")


def staged(folder, **changes):
    """That study with text for cpt and pairs for dpo too, in the columns that 01_data writes."""
    p = study(folder, **changes)
    generator = torch.Generator().manual_seed(5)

    def ids(n, least=3, most=500):
        return torch.randint(least, most, (n,), generator=generator).tolist()

    texts = [
        {"input_ids": (text := [1, *ids(n), 2]), "labels": [-100, *text[1:]], "source": "s"}
        for n in range(20, 60)
    ]
    pairs = [
        {
            "prompt_ids": [1, *ids(n)],
            "chosen_ids": [*ids(6, 3, 50), 2],
            "rejected_ids": [*ids(9, 400), 2],
            "source": "s",
        }
        for n in range(8, 48)
    ]
    Dataset.from_list(texts).save_to_disk(folder / "data/text")
    Dataset.from_list(pairs).save_to_disk(folder / "data/preferences")
    return p


def train(p, folder, number: int = 1, kind: str = "sft", seed: int | None = None) -> Path:
    """Trains one stage as `launch.run` does, in this process; returns the stage's folder.

    A process of its own takes ten seconds to import what the tests have imported already.
    """
    stage = launch.write_description(
        p, folder, number, kind, p.train_seeds[0] if seed is None else seed
    )
    trainer.main(stage)
    return stage
