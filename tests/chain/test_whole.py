"""Stages that train all weights: one after another, resumed, in pieces on two processes."""

import json
import math
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sm70lib.evaluation import candidates
from sm70lib.models import layers
from sm70lib.steps import trained
from sm70lib.study.params import ROOT
from sm70lib.training import checkpoints, launch
from tests.tuning import staged, study, train, weights

WHOLE = {"train_parameters": "full", "quant_type": "none", "sft_lr": 1e-3, "dpo_lr": 1e-3}


def left(stage) -> dict[str, torch.Tensor]:
    return load_file(stage / "model/model.safetensors")


def test_each_stage_leaves_a_model_and_the_next_starts_from_it(tmp_path):
    stages = ["sft", "dpo"]
    p = staged(tmp_path, train_stages=stages, dpo_steps=6, **WHOLE)
    folders = [train(p, tmp_path, number, kind) for number, kind in enumerate(stages, 1)]
    before, after = map(left, folders)
    assert before.keys() == after.keys() and len(before) == 20, "the head is the embeddings"
    moved = max((after[name] - before[name]).abs().max() for name in before)
    assert 0 < moved < 0.01, "six steps of AdamW at 1e-3, from where sft ended"
    for folder in folders:
        check = json.loads((folder / "first-step.json").read_text())
        assert check == {"weights": 20, "weights_moved": 20, "max_weight_difference": 0}
        assert not (folder / "first-step").exists(), "as large as the model"
        assert layers.table(folder)["parameters"].sum() == sum(w.numel() for w in before.values())
    losses = launch.metrics(folders[1])["loss"].dropna()
    assert losses.iloc[0] == pytest.approx(math.log(2), abs=1e-6)
    found = {model.name: model for model in candidates._trained(p, tmp_path, "base")}
    assert list(found) == ["tuned-1-sft", "tuned"]
    assert found["tuned"].source == str(trained.last(p, tmp_path)) == str(folders[1] / "model")
    assert found["tuned"].adapter is None and found["tuned"].tokenizer().eos_token


def test_a_killed_stage_ends_with_the_same_weights(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    p = study(whole, sft_steps=6, sft_min_lr=0.1, sft_scheduler="cosine", **WHOLE)
    stage = train(p, whole)
    shutil.copytree(whole, cut)
    for name in ("model", "checkpoint-6"):
        shutil.rmtree(cut / "stages/1-sft" / name)
    (cut / "stages/1-sft/done.json").unlink()
    assert checkpoints.last_checkpoint(cut / "stages/1-sft").name == "checkpoint-3"
    again = train(p, cut)
    one, other = left(stage), left(again)
    assert len(one) == 20 and all(torch.equal(one[name], other[name]) for name in one)
    assert launch.metrics(stage)["loss"].equals(launch.metrics(again)["loss"])


def test_two_processes_that_share_a_model_train_it_as_one_does_and_go_on(tmp_path, monkeypatch):
    """FSDP2 by the launcher file itself, but for what has to be a GPU."""
    settings = yaml.safe_load((ROOT / "params/accelerate/fsdp2-full.yml").read_text())
    (tmp_path / "fsdp2.yml").write_text(yaml.safe_dump(settings | {"use_cpu": True}))
    launcher = f"accelerate launch --config_file {tmp_path}/fsdp2.yml --main_process_port 0"
    command = [*launch.launcher(launcher), "tests/chain/on_cpu.py"]
    monkeypatch.setattr(launch, "launcher", lambda line: command)
    changes = {"sft_steps": 6, "sft_batch_size": 4, "train_micro_batch_size": 2, **WHOLE}
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    stage = train(study(alone, **changes), alone)
    p = study(shared, train_launcher=launcher, **changes)
    pieces = launch.run(p, shared, 1, "sft")
    assert json.loads((pieces / "done.json").read_text())["world_size"] == 2
    losses = [launch.metrics(folder)["loss"].dropna().tolist() for folder in (stage, pieces)]
    assert len(losses[0]) == 6 and losses[0] == pytest.approx(losses[1], rel=1e-4)
    one, two = left(stage), left(pieces)
    assert one.keys() == two.keys() and {w.dtype for w in two.values()} == {torch.float32}
    assert max((one[name] - two[name]).abs().max() for name in one) < 1e-4
    last = checkpoints.last_checkpoint(pieces)
    written = sum(path.stat().st_size for path in last.rglob("*") if path.is_file())
    every = 4 * sum(weight.numel() for weight in two.values())
    assert (last / "optimizer_0").is_dir(), "in pieces: FSDP has saved it, and not DDP"
    assert last.name == "checkpoint-6"
    assert 3 * every < written < 4.5 * every, "the head is also saved beside the embeddings"
    for name in ("model", "checkpoint-6"):
        shutil.rmtree(pieces / name)
    (pieces / "done.json").unlink()
    launch.run(p, shared, 1, "sft")
    assert all(torch.equal(two[name], weight) for name, weight in weights(shared).items())
