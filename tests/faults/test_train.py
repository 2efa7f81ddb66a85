"""Training that is killed ends as an undisturbed one, and bad set-ups stop early."""

import json
import math
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from sm70lib.steps import trained
from sm70lib.study import files
from sm70lib.study.params import StudyError
from sm70lib.training import checkpoints, launch
from tests import small
from tests.tuning import staged, start, study, train, weights


def test_killed_after_a_checkpoint_ends_with_the_same_weights_and_metrics(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        study(folder, sft_steps=60, lora_dropout=0.1)
    p = small.parameters(sft_steps=60, lora_dropout=0.1)
    train(p, undisturbed)
    process = start(p, killed)
    state = killed / "stages/1-sft/checkpoint-3/sealed.json"
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "stages/1-sft/done.json").exists()
    (killed / "stages/1-sft/checkpoint-900").mkdir()  # what a kill in the middle of saving leaves
    train(p, killed)
    one, other = weights(undisturbed), weights(killed)
    assert len(one) == 28 and one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    logged = [
        launch.metrics(folder / "stages/1-sft").drop(columns="seconds")
        for folder in (undisturbed, killed)
    ]
    assert len(logged[0]["loss"].dropna()) == 60 and logged[0].equals(logged[1])
    assert logged[0]["num_tokens"].dropna().is_monotonic_increasing


def test_a_batch_that_cannot_be_divided_is_one_sentence(tmp_path):
    p = study(tmp_path, sft_batch_size=5, train_micro_batch_size=2)
    with pytest.raises(
        StudyError, match="sft_batch_size 5 is not a multiple of train_micro_batch_size 2"
    ):
        train(p, tmp_path)


def test_a_row_longer_than_the_limit_is_refused_before_training(tmp_path):
    p = study(tmp_path, data_max_length=40)
    with pytest.raises(
        StudyError, match="a row of data/train has 49 tokens, more than data_max_length 40"
    ):
        train(p, tmp_path)


@contextmanager
def on_a_full_disk(monkeypatch):
    """A trainer whose disk is full from step 6 on."""
    command = [sys.executable, "tests/faults/full_disk.py", "6"]
    with monkeypatch.context() as patch:
        patch.setattr(launch, "launcher", lambda line: command)
        yield


def test_a_full_disk_is_one_sentence_and_the_last_good_checkpoint_goes_on(tmp_path, monkeypatch):
    whole, full = tmp_path / "whole", tmp_path / "full"
    p = [study(folder, sft_steps=9, lora_dropout=0.1) for folder in (whole, full)][0]
    train(p, whole)
    with (
        on_a_full_disk(monkeypatch),
        pytest.raises(
            StudyError,
            match="writing below .* failed: free some space and run again; the last complete",
        ),
    ):
        launch.run(p, full, 1, "sft")
    stage = full / "stages/1-sft"
    assert (stage / "checkpoint-6").exists() and not (stage / "done.json").exists()
    last = checkpoints.last_checkpoint(stage)
    assert last == stage / "checkpoint-3" and (stage / "checkpoint-6").exists(), "a question"
    checkpoints.forget_after(stage, last)
    assert last.exists() and not (stage / "checkpoint-6").exists()
    train(p, full)
    one, other = weights(whole), weights(full)
    assert len(one) == 28 and all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_that_was_cut_short_or_changed_is_passed_over(tmp_path):
    p = study(tmp_path, sft_steps=6)
    stage = train(p, tmp_path)
    last = stage / "checkpoint-6"
    assert checkpoints.last_checkpoint(stage) == last
    content = (last / "optimizer.pt").read_bytes()
    (last / "optimizer.pt").write_bytes(content[: len(content) // 2])
    assert checkpoints.last_checkpoint(stage) == stage / "checkpoint-3" and last.exists()
    weight = stage / "checkpoint-3/adapter_model.safetensors"
    weight.write_bytes(weight.read_bytes()[:-1] + b"\x01")
    assert checkpoints.last_checkpoint(stage) is None


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A stage of six steps with two checkpoints, to be copied and damaged."""
    folder = tmp_path_factory.mktemp("trained")
    p = study(folder, sft_steps=6, sft_scheduler="constant")  # a step too many would show
    train(p, folder)
    return p, folder


@pytest.fixture
def stage(trained_once, tmp_path):
    shutil.copytree(trained_once[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "stages/1-sft"


def test_a_checkpoint_that_cannot_be_read_is_named_and_the_one_before_taken(stage, capsys):
    (stage / "checkpoint-x").mkdir()  # is none
    (stage / "checkpoint-7").write_text("nor is this")
    last, before = stage / "checkpoint-6", stage / "checkpoint-3"
    assert checkpoints.last_checkpoint(stage) == last and capsys.readouterr().out == ""
    good = (last / "rng_state.pth").read_bytes()
    (last / "rng_state.pth").write_bytes(good[:-30])
    assert checkpoints.last_checkpoint(stage) == before
    said = "note: checkpoint-6 of 1-sft is passed over: rng_state.pth is not as it was saved\n"
    assert capsys.readouterr().out == said
    (last / "rng_state.pth").write_bytes(good)
    (last / "optimizer.pt").unlink()
    (last / "optimizer.pt").mkdir()
    assert checkpoints.last_checkpoint(stage) == before
    for seal in ("[]", "{", "7", ""):
        (last / "sealed.json").write_text(seal)
        assert checkpoints.last_checkpoint(stage) == before
    assert capsys.readouterr().out.count("is passed over: ") == 5
    checkpoints.forget_after(stage, before)
    left = sorted(path.name for path in stage.glob("checkpoint-*"))
    assert left == ["checkpoint-3", "checkpoint-7", "checkpoint-x"]


def test_a_seal_of_an_earlier_version_holds_unless_a_random_state_is_unreadable(stage):
    last = stage / "checkpoint-6"
    sealed = json.loads((last / "sealed.json").read_text())
    assert "rng_state.pth" in sealed and "optimizer.pt" in sealed
    del sealed["rng_state.pth"]
    (last / "sealed.json").write_text(json.dumps(sealed))
    assert checkpoints.last_checkpoint(stage) == last
    state = (last / "rng_state.pth").read_bytes()
    (last / "rng_state.pth").write_bytes(state[: len(state) // 2])
    assert checkpoints.last_checkpoint(stage) == stage / "checkpoint-3"


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_stage_is_put_aside_made_again_and_never_published(
    trained_once, stage, capsys, file
):
    """It is read from its last checkpoint, and no further step is trained."""
    p, folder = trained_once[0], stage.parents[1]
    record, metrics = files.record(stage / "adapter"), (stage / "metrics.jsonl").read_bytes()
    launch.publish(stage, folder)
    path = stage / "adapter" / file
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"r": 4', b'"r": 8') if file.endswith("json") else good[:-1])
    assert path.read_bytes() != good and not trained.finished(stage)
    trained.mend(folder, stage)
    said = "stages/1-sft/adapter is not as written; put aside in replaced/03_qlora_finetune/damaged"
    assert said in capsys.readouterr().out and not (stage / "adapter").exists()
    train(p, folder)
    assert files.changed(stage / "adapter", record, thorough=True) == []
    assert (stage / "metrics.jsonl").read_bytes() == metrics
    assert json.loads((stage / "done.json").read_text())["steps"] == 6
    (folder / "adapter" / file).write_bytes(b"damaged")
    launch.publish(stage, folder)
    assert files.changed(folder / "adapter", record, thorough=True) == []


def test_lost_metrics_of_a_finished_stage_are_restored_from_its_checkpoint(stage):
    before = launch.metrics(stage).set_index("step")
    (stage / "metrics.jsonl").unlink()
    trained.mend(stage.parents[1], stage)
    after = launch.metrics(stage).set_index("step")
    for name in ("loss", "eval_loss", "grad_norm"):
        assert len(after[name].dropna()) >= 1
        assert before[name].dropna().equals(after[name].dropna()), name
    with open(stage / "metrics.jsonl", "a") as file:
        file.write('[1]\n{"step": \n')
    assert len(launch.metrics(stage)) == len(after), "a broken line is left out"


def test_a_loss_that_is_no_number_stops_the_run_and_its_weights_are_never_sealed(tmp_path):
    p = study(tmp_path, sft_steps=30, sft_lr=1e30, sft_max_grad_norm=1e30, train_save_steps=1)
    with pytest.raises(StudyError, match="the loss is nan at step 2.* lower the learning rate"):
        train(p, tmp_path)
    stage = tmp_path / "stages/1-sft"
    assert checkpoints.last_checkpoint(stage) == stage / "checkpoint-1", "before the loss was nan"
    kept = load_file(stage / "checkpoint-1/adapter_model.safetensors")
    assert len(kept) == 28 and all(weight.isfinite().all() for weight in kept.values())
    sealed = SimpleNamespace(is_world_process_zero=True, global_step=7)
    bad = torch.nn.Linear(2, 2)
    bad.weight.data[0, 0] = math.nan
    with pytest.raises(StudyError, match="NaN or infinite at step 7: lower the learning rate"):
        checkpoints.Seal().on_save(SimpleNamespace(output_dir=tmp_path), sealed, None, model=bad)


def test_a_killed_dpo_ends_as_an_undisturbed_one(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    p = staged(whole, train_stages=["sft", "dpo"], dpo_steps=9, dpo_lr=1e-3)
    train(p, whole)
    shutil.copytree(whole, cut)
    train(p, whole, 2, "dpo")
    with on_a_full_disk(monkeypatch), pytest.raises(StudyError, match="failed: free some space"):
        launch.run(p, cut, 2, "dpo")
    train(p, cut, 2, "dpo")
    one, other = (
        load_file(folder / "stages/2-dpo/adapter/adapter_model.safetensors")
        for folder in (whole, cut)
    )
    assert len(one) == 28 and all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_go_on_from_a_checkpoint_and_say_why_they_stopped(tmp_path):
    p = study(
        tmp_path,
        sft_steps=6,
        sft_batch_size=4,
        train_micro_batch_size=1,
        train_launcher="torchrun --standalone --nproc_per_node 2",
    )
    stage = launch.run(p, tmp_path, 1, "sft")
    first = weights(tmp_path)
    (stage / "done.json").unlink()
    (stage / "checkpoint-6/optimizer.pt").write_bytes(b"cut short")
    launch.run(p, tmp_path, 1, "sft")
    assert len(first) == 28 and all(
        torch.equal(first[name], weight) for name, weight in weights(tmp_path).items()
    )
    with pytest.raises(
        StudyError,
        match="sft_batch_size 4 is not a multiple of train_micro_batch_size 4 times 2 processes",
    ):
        launch.run(
            study(tmp_path / "other", **p.model_dump() | {"train_micro_batch_size": 4}),
            tmp_path / "other",
            1,
            "sft",
        )
