"""Training: a killed run ends as an undisturbed one, what is trained is what is saved, and bad set-ups stop early."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from sm70lib import callbacks, model, train
from sm70lib.params import ROOT, StudyError
from sm70lib.steps import write_json
from tests import small


def study(folder, **changes):
    """A base and forty rows of random tokens, as 00 and 01 leave them."""
    p = small.base(folder, **changes)
    generator = torch.Generator().manual_seed(0)
    rows = [{"input_ids": (ids := torch.randint(3, 500, (n,), generator=generator).tolist()),
             "labels": [-100] * 3 + ids[3:]} for n in range(10, 50)]
    Dataset.from_list(rows[4:]).save_to_disk(folder / "data/train")
    Dataset.from_list(rows[:4]).save_to_disk(folder / "data/holdout")
    return p


def start(p, folder) -> subprocess.Popen:
    """The trainer's process, as `train.run` starts it."""
    stage = folder / "stages/1-sft"
    write_json(stage / "stage.json", {"study_folder": str(folder), "kind": "sft", "number": 1, "seed": 0, "start": None,
                                      "params": p.model_dump()})
    return subprocess.Popen([sys.executable, "-m", "sm70lib.train", str(stage)], cwd=ROOT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "stages/1-sft/adapter/adapter_model.safetensors")


def test_killed_after_a_checkpoint_ends_with_the_same_weights_and_metrics(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        study(folder, sft_steps=60, lora_dropout=0.1)
    p = small.parameters(sft_steps=60, lora_dropout=0.1)
    assert start(p, undisturbed).wait(120) == 0
    process = start(p, killed)
    state = killed / "stages/1-sft/checkpoint-3/sealed.json"
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "stages/1-sft/done.json").exists()
    (killed / "stages/1-sft/checkpoint-900").mkdir()  # what a kill in the middle of saving leaves
    assert start(p, killed).wait(120) == 0
    one, other = weights(undisturbed), weights(killed)
    assert len(one) == 28 and one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [train.metrics(folder / "stages/1-sft").set_index("step")["loss"].dropna()
              for folder in (undisturbed, killed)]
    assert len(losses[0]) == 60 and losses[0].equals(losses[1])


def test_the_notebook_side_runs_a_stage_and_watches_it(tmp_path):
    p, seen = study(tmp_path, sft_steps=6, sft_warmup=0.3), []
    stage = train.run(p, tmp_path, 1, "sft", watch=lambda metrics: seen.append(len(metrics)))
    assert json.loads((stage / "done.json").read_text())["steps"] == 6 and max(seen) >= 6
    check = json.loads((stage / "first-step.json").read_text())
    assert check["max_logit_difference"] < 1e-5 < check["max_logit_change"]
    total = sum(weight.numel() for weight in weights(tmp_path).values())
    assert train.adapter_table(stage / "adapter")["parameters"].sum() == total
    before = (stage / "adapter/adapter_model.safetensors").stat().st_mtime_ns
    train.run(p, tmp_path, 1, "sft")  # finished: nothing is trained again
    assert (stage / "adapter/adapter_model.safetensors").stat().st_mtime_ns == before


def test_the_saved_adapter_is_the_trained_one(tmp_path):
    p = study(tmp_path, sft_steps=3)
    stage = train.run(p, tmp_path, 1, "sft")
    base = tmp_path / "base/model"
    bare, tuned = model.load(base, p), model.load(base, p, stage / "adapter")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert (bare(input_ids=ids).logits - tuned(input_ids=ids).logits).abs().max() > 1e-3


def test_accumulated_batches_train_like_one_large_batch(tmp_path):
    found = {}
    for micro in (8, 2):
        folder = tmp_path / str(micro)
        p = study(folder, sft_steps=2, sft_batch_size=8, train_micro_batch_size=micro, sft_lr=1e-3)
        train.run(p, folder, 1, "sft")
        found[micro] = train.metrics(folder / "stages/1-sft")["loss"].dropna().tolist()
    assert len(found[8]) == 2 and found[8] == pytest.approx(found[2], rel=1e-4)


def test_a_batch_that_cannot_be_divided_is_one_sentence(tmp_path):
    p = study(tmp_path, sft_batch_size=5, train_micro_batch_size=2)
    with pytest.raises(StudyError, match="sft_batch_size 5 is no multiple of train_micro_batch_size 2"):
        train.run(p, tmp_path, 1, "sft")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    p = study(tmp_path, sft_steps=30, sft_lr=1e30, sft_max_grad_norm=1e30)
    with pytest.raises(StudyError, match="the loss is .* lower the learning rate"):
        train.run(p, tmp_path, 1, "sft")


def test_an_orphaned_trainer_notices(monkeypatch):
    monkeypatch.delenv("SM70_NOTEBOOK", raising=False)
    assert not callbacks.notebook_gone()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    monkeypatch.setenv("SM70_NOTEBOOK", f"{os.uname().nodename}:{process.pid}")
    assert callbacks.notebook_gone()
    monkeypatch.setenv("SM70_NOTEBOOK", f"{os.uname().nodename}:{os.getpid()}")
    assert not callbacks.notebook_gone()
    monkeypatch.setenv("SM70_NOTEBOOK", "elsewhere:1")
    assert not callbacks.notebook_gone()


def test_packed_rows_are_trained_whole(tmp_path):
    p = study(tmp_path, sft_steps=2, sft_batch_size=1, train_micro_batch_size=1, sft_packing=True, data_max_length=128)
    stage = train.run(p, tmp_path, 1, "sft")
    assert len(train.metrics(stage)["loss"].dropna()) == 2


def test_every_optimiser_on_offer_trains(tmp_path):
    losses = {}
    for optimiser in ("adamw_torch", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit"):
        folder = tmp_path / optimiser
        p = study(folder, sft_steps=2, sft_optimizer=optimiser)
        losses[optimiser] = train.metrics(train.run(p, folder, 1, "sft"))["loss"].dropna().iloc[0]
    assert len(losses) == 4 and len(set(losses.values())) == 1  # the first loss comes before any update
