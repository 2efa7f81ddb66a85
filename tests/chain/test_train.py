"""Training: a killed run ends as an undisturbed one, what is trained is what is saved, and bad set-ups stop early."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import yaml
from datasets import Dataset, load_from_disk
from safetensors.torch import load_file
from transformers import TrainerCallback
from trl.trainer import utils

from sm70lib import sources
from sm70lib.corpus import templates, tokens, training_set
from sm70lib.models import loading, lora
from sm70lib.steps import keys
from sm70lib.steps.steps import write_json
from sm70lib.study import files
from sm70lib.study.params import ROOT, StudyError
from sm70lib.training import checkpoints, checks, launch, methods, trainers, watch
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
    losses = [
        launch.metrics(folder / "stages/1-sft").set_index("step")["loss"].dropna()
        for folder in (undisturbed, killed)
    ]
    assert len(losses[0]) == 60 and losses[0].equals(losses[1])


def test_the_notebook_side_runs_a_stage_and_watches_it(tmp_path):
    p, seen = study(tmp_path, sft_steps=6, sft_warmup=0.3), []
    stage = launch.run(p, tmp_path, 1, "sft", watch=lambda metrics: seen.append(len(metrics)))
    assert json.loads((stage / "done.json").read_text())["steps"] == 6 and max(seen) >= 6
    check = json.loads((stage / "first-step.json").read_text())
    assert check["max_logit_difference"] < 1e-5 < check["max_logit_change"]
    total = sum(weight.numel() for weight in weights(tmp_path).values())
    assert lora.adapter_table(stage / "adapter")["parameters"].sum() == total
    launch.publish(stage, tmp_path / "adapter")
    for adapter in (stage / "adapter", tmp_path / "adapter"):
        assert json.loads((adapter / "template.json").read_text()) == {
            "name": "medalpaca",
            "sha256": templates.digest("medalpaca"),
        }
    digest = files.digest(stage / "adapter")
    (stage / "adapter/template.json").unlink()
    assert files.digest(stage / "adapter") == digest, "the weights alone tell adapters apart"


def test_a_finished_stage_starts_no_process(tmp_path, monkeypatch):
    p, seen = study(tmp_path, sft_steps=3), []
    stage = launch.run(p, tmp_path, 1, "sft")
    launch.publish(stage, tmp_path / "adapter")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(subprocess, "Popen", None)
    assert (
        launch.run(p, tmp_path, 1, "sft", watch=lambda metrics: seen.append(len(metrics))) == stage
    )
    launch.publish(stage, tmp_path / "adapter")
    assert (
        {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        and seen
        and seen[0] >= 3
    )
    shutil.rmtree(stage / "adapter")
    with pytest.raises(TypeError):  # the process that would make it again
        launch.run(p, tmp_path, 1, "sft")


@pytest.mark.parametrize("left", ["done.json", "checkpoint-3"])
def test_a_stage_of_another_key_is_not_trained_over(tmp_path, left):
    p = study(tmp_path, sft_steps=6)
    stage = launch.run(p, tmp_path, 1, "sft")
    for path in (stage / "done.json", stage / "checkpoint-3", stage / "checkpoint-6"):
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = {path: path.stat().st_mtime_ns for path in stage.rglob("*")}
    for other, words in (
        (small.parameters(sft_steps=6, lora_alpha=16), "lora_alpha: 8 -> 16"),
        (small.parameters(sft_steps=9), "sft_steps: 6 -> 9"),
    ):
        with pytest.raises(StudyError, match=rf"1-sft was trained with something else \({words}\)"):
            launch.run(other, tmp_path, 1, "sft")
    shutil.rmtree(tmp_path / "data/train")
    Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 12).save_to_disk(
        tmp_path / "data/train"
    )
    with pytest.raises(StudyError, match="data/train changed"):
        launch.run(p, tmp_path, 1, "sft")
    assert {path: path.stat().st_mtime_ns for path in stage.rglob("*")} == before


def test_a_stage_has_a_key_of_what_decides_its_adapter(tmp_path):
    p = staged(tmp_path, train_stages=["cpt", "sft", "dpo", "dpo"])
    keys_of = {number: keys.of_stage(p, tmp_path, number, 0) for number in (1, 2, 3, 4)}
    assert len({keys.short(key) for key in keys_of.values()}) == 4
    changes = {
        "cpt_lr": {1, 2, 3, 4},
        "sft_lr": {2, 3, 4},
        "dpo_beta": {3, 4},
        "lora_alpha": {1, 2, 3, 4},
        "train_micro_batch_size": set(),
        "train_merge": set(),
        "data_holdout": {1, 2, 3, 4},
    }
    for name, moved in changes.items():
        other = SimpleNamespace(**vars(p) | {name: 1 if name != "train_merge" else ["original"]})
        found = {
            n
            for n, key in keys_of.items()
            if keys.difference(key, keys.of_stage(other, tmp_path, n, 0))
        }
        assert found == moved, name
    assert keys.difference(keys_of[3], keys.of_stage(p, tmp_path, 3, 7)).startswith(
        "train_seed: 0 -> 7"
    )
    shutil.rmtree(tmp_path / "data/preferences")
    shutil.copytree(tmp_path / "data/text", tmp_path / "data/preferences")
    assert {
        n for n, key in keys_of.items() if keys.difference(key, keys.of_stage(p, tmp_path, n, 0))
    } == {3, 4}


def test_the_saved_adapter_is_the_trained_one(tmp_path):
    p = study(tmp_path, sft_steps=3)
    stage = launch.run(p, tmp_path, 1, "sft")
    base = tmp_path / "base/model"
    bare, tuned = loading.load(base, p), loading.load(base, p, stage / "adapter")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert (bare(input_ids=ids).logits - tuned(input_ids=ids).logits).abs().max() > 1e-3


def test_a_batch_that_cannot_be_divided_is_one_sentence(tmp_path):
    p = study(tmp_path, sft_batch_size=5, train_micro_batch_size=2)
    with pytest.raises(
        StudyError, match="sft_batch_size 5 is no multiple of train_micro_batch_size 2"
    ):
        launch.run(p, tmp_path, 1, "sft")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    p = study(tmp_path, sft_steps=30, sft_lr=1e30, sft_max_grad_norm=1e30)
    with pytest.raises(StudyError, match="the loss is .* lower the learning rate"):
        launch.run(p, tmp_path, 1, "sft")


def test_an_orphaned_trainer_notices(monkeypatch):
    monkeypatch.delenv("SM70_NOTEBOOK", raising=False)
    assert not watch.notebook_gone()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    monkeypatch.setenv("SM70_NOTEBOOK", f"{os.uname().nodename}:{process.pid}")
    assert watch.notebook_gone()
    monkeypatch.setenv("SM70_NOTEBOOK", f"{os.uname().nodename}:{os.getpid()}")
    assert not watch.notebook_gone()
    monkeypatch.setenv("SM70_NOTEBOOK", "elsewhere:1")
    assert not watch.notebook_gone()


def test_every_optimiser_on_offer_trains(tmp_path):
    losses = {}
    for optimiser in ("adamw_torch", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit"):
        folder = tmp_path / optimiser
        p = study(folder, sft_steps=2, sft_optimizer=optimiser)
        losses[optimiser] = launch.metrics(launch.run(p, folder, 1, "sft"))["loss"].dropna().iloc[0]
    assert (
        len(losses) == 4 and len(set(losses.values())) == 1
    )  # the first loss comes before any update


# ---- the same gradients, however rows are laid out ---------------------------------------------------


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimiser step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.seen = {
                name: w.grad.clone() for name, w in model.named_parameters() if w.requires_grad
            }


def first_step(folder, rows, **changes) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one optimiser step over all of `rows`, with both LoRA matrices away from zero."""
    p = study(folder, sft_steps=1, sft_max_grad_norm=1e9, **changes)
    how = SimpleNamespace(kind="sft", seed=0, start=None)
    trainer = trainers.build(
        p, loading.located(folder), rows, rows.select([]), folder / "stage", how
    )
    generator = torch.Generator().manual_seed(1)
    for _, weight in sorted(trainer.model.named_parameters()):
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05
    trainer.add_callback(kept := Gradients())
    trainer.train()
    return trainer.state.log_history[0]["loss"], kept.seen


def test_one_by_eight_eight_by_one_and_packed_rows_give_the_same_loss_and_gradients(tmp_path):
    generator = torch.Generator().manual_seed(3)
    rows = [
        {
            "input_ids": (ids := [1, *torch.randint(3, 500, (n,), generator=generator).tolist()]),
            "labels": [-100] * (n // 2) + ids[n // 2 :],
        }
        for n in (9, 14, 20, 31, 40, 52, 60, 70)
    ]  # unequal targets
    rows = Dataset.from_list(rows)
    whole = first_step(tmp_path / "whole", rows, sft_batch_size=8, train_micro_batch_size=8)
    others = {
        "1 x 8": first_step(tmp_path / "single", rows, sft_batch_size=8, train_micro_batch_size=1),
        "packed": first_step(
            tmp_path / "packed", rows, sft_batch_size=1, train_micro_batch_size=1, sft_packing=True
        ),
        "checkpointed": first_step(
            tmp_path / "recomputed",
            rows,
            sft_batch_size=8,
            train_micro_batch_size=8,
            train_gradient_checkpointing=True,
        ),
    }
    for name, (loss, gradients) in others.items():
        assert loss == pytest.approx(whole[0], rel=1e-5), name
        assert len(gradients) == 28 and gradients.keys() == whole[1].keys()
        for weight, gradient in gradients.items():
            right = whole[1][weight]
            assert torch.norm(gradient - right) < 1e-3 * torch.norm(right), (name, weight)


def test_only_targets_go_through_the_head(tmp_path, monkeypatch):
    seen, whole = [], utils._ChunkedLogProbFunction

    class Watched:
        @staticmethod
        def apply(hidden, *others):
            seen.append(len(hidden))
            return whole.apply(hidden, *others)

    rows = Dataset.from_list(
        [{"input_ids": [1, *range(3, 3 + n)], "labels": [-100] * n + [n + 2]} for n in (5, 9)]
    )
    losses = []
    for everywhere in (False, True):
        trainer = trainers.build(
            study(tmp_path / str(everywhere), sft_steps=1),
            loading.located(tmp_path / str(everywhere)),
            rows,
            rows.select([]),
            tmp_path / "stage",
            SimpleNamespace(kind="sft", seed=0, start=None),
        )
        monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Watched)
        if everywhere:
            monkeypatch.setattr(utils, "_use_triton", lambda device: False)
        losses.append(trainer.train().training_loss)
    assert seen == [2, 2 * 9] and losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_real_rows_have_one_bos_a_trained_eos_and_a_masked_prompt(tmp_path, shared_data):
    names = ["medical_meadow_mmmlu", "medquad", "med_safety_bench"]
    policies = {f"audit_{check}": "report" for check in ("leak", "duplicate", "personal", "label")}
    p = small.base(
        tmp_path,
        data_max_length=1536,
        base_context=1536,
        data_sources=names,
        data_limit=400,
        data_holdout=5,
        data_caps={},
        cpt_sources=[],
        dpo_sources=[],
        sft_loss="response",
        data_overlong="cut",
        **policies,
    )
    tokenizer = loading.load_tokenizer(tmp_path / "base/model")
    answers = {
        row.output for name in names for row in sources.read(name, shared_data, [], 400, p.seed)
    }
    _, table = training_set.prepare(p, shared_data, [], tokenizer, tmp_path / "data")
    rows = load_from_disk(tmp_path / "data/train")
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        masked = labels.count(-100)
        assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
        assert (
            ids[-1] == labels[-1] == tokenizer.eos_token_id
            and ids.count(tokenizer.eos_token_id) == 1
        )
        assert 1 < masked < len(ids) <= 1536 and labels == [-100] * masked + ids[masked:]
        assert tokenizer.decode(ids[masked:-1]) in answers
        assert tokenizer.decode(ids[1:masked]).endswith("### Response:\n")
    assert len(rows) > 1000 and set(rows["source"]) == set(names) and len(table) == len(rows) + 5
    shown = tokens.show(rows[0]["input_ids"], rows[0]["labels"], tokenizer)
    assert shown["label"].iloc[-1] == tokenizer.eos_token and shown["label"].iloc[0] == ""
    trainer = trainers.build(
        p,
        loading.located(tmp_path),
        rows.select(range(8)),
        rows.select([]),
        tmp_path / "stage",
        SimpleNamespace(kind="sft", seed=0, start=None),
    )
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(8)])
    targets = (batch["labels"] != -100).sum().item()
    assert targets == sum(
        len(row["labels"]) - row["labels"].count(-100) for row in rows.select(range(8))
    )


def test_a_row_longer_than_the_limit_is_refused_before_training(tmp_path):
    p = study(tmp_path, data_max_length=40)
    with pytest.raises(
        StudyError, match="a row of data/train has 49 tokens, more than data_max_length 40"
    ):
        launch.run(p, tmp_path, 1, "sft")


# ---- faults -----------------------------------------------------------------------------------------


def test_a_full_disk_is_one_sentence_and_the_last_good_checkpoint_goes_on(tmp_path):
    whole, full = tmp_path / "whole", tmp_path / "full"
    p = [study(folder, sft_steps=9, lora_dropout=0.1) for folder in (whole, full)][0]
    launch.run(p, whole, 1, "sft")
    faulty = small.parameters(
        sft_steps=9, lora_dropout=0.1, train_launcher="python tests/faults/full_disk.py 6"
    )
    with pytest.raises(
        StudyError,
        match="writing below .* failed: free some space and run again; the last complete",
    ):
        launch.run(faulty, full, 1, "sft")
    stage = full / "stages/1-sft"
    assert (stage / "checkpoint-6").exists() and not (stage / "done.json").exists()
    assert (
        checkpoints.last_checkpoint(stage) == stage / "checkpoint-3"
        and not (stage / "checkpoint-6").exists()
    )
    launch.run(p, full, 1, "sft")
    one, other = weights(whole), weights(full)
    assert len(one) == 28 and all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_that_was_cut_short_or_changed_is_passed_over(tmp_path):
    p = study(tmp_path, sft_steps=6)
    stage = launch.run(p, tmp_path, 1, "sft")
    last = stage / "checkpoint-6"
    assert checkpoints.last_checkpoint(stage) == last
    content = (last / "optimizer.pt").read_bytes()
    (last / "optimizer.pt").write_bytes(content[: len(content) // 2])
    assert checkpoints.last_checkpoint(stage) == stage / "checkpoint-3" and not last.exists()
    weight = stage / "checkpoint-3/adapter_model.safetensors"
    weight.write_bytes(weight.read_bytes()[:-1] + b"\x01")
    assert checkpoints.last_checkpoint(stage) is None


def test_weights_that_are_no_numbers_are_never_sealed(tmp_path):
    p = study(tmp_path, sft_steps=30, sft_lr=1e30, sft_max_grad_norm=1e30, train_save_steps=1)
    with pytest.raises(StudyError, match="no number|the loss is"):
        launch.run(p, tmp_path, 1, "sft")
    kept = checkpoints.last_checkpoint(tmp_path / "stages/1-sft")
    if kept is not None:
        assert all(
            w.isfinite().all() for w in load_file(kept / "adapter_model.safetensors").values()
        )
    sealed = SimpleNamespace(is_world_process_zero=True, global_step=7)
    bad = torch.nn.Linear(2, 2)
    bad.weight.data[0, 0] = math.nan
    with pytest.raises(StudyError, match="no number at step 7: lower the learning rate"):
        checkpoints.Seal().on_save(SimpleNamespace(output_dir=tmp_path), sealed, None, model=bad)


def test_a_launcher_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(
        StudyError, match="train_launcher: there is no program nosuch; give python, torchrun"
    ):
        launch.run(study(tmp_path, train_launcher="nosuch run"), tmp_path, 1, "sft")
    assert launch.launcher("torchrun --nproc_per_node 2")[1:] == ["--nproc_per_node", "2"]


# ---- stages, adapters, processes --------------------------------------------------------------------


def staged(folder, **changes):
    """The study of `study` with text for cpt and pairs for dpo, in the columns that 01_data writes."""
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


def test_each_stage_goes_on_from_the_one_before_and_dpo_begins_at_ln_2(tmp_path):
    stages = ["cpt", "sft", "dpo", "dpo"]
    p = staged(
        tmp_path,
        train_stages=stages,
        dpo_lr=3e-3,
        dpo_steps=12,
        cpt_packing=True,
        data_max_length=128,
    )
    folders = [launch.run(p, tmp_path, number, kind) for number, kind in enumerate(stages, 1)]
    assert [folder.name for folder in folders] == ["1-cpt", "2-sft", "3-dpo", "4-dpo"]
    adapters = [load_file(folder / "adapter/adapter_model.safetensors") for folder in folders]
    assert len(adapters[0]) == 28 and all(
        adapter.keys() == adapters[0].keys() for adapter in adapters
    )
    told = [templates.trained_in(folder / "adapter", "medalpaca") for folder in folders]
    assert told == ["medalpaca"] * 4
    for before, after in zip(adapters, adapters[1:]):  # moved on from there, not begun anew
        moved = sum((after[name] - before[name]).norm() ** 2 for name in after) ** 0.5
        assert 0 < moved < 0.5 * sum(before[name].norm() ** 2 for name in before) ** 0.5
    for folder in folders[2:]:
        found = launch.metrics(folder)
        assert found["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-6)
        held_out = found["eval_loss"].dropna()
        assert (
            held_out.iloc[-1] < min(math.log(2), held_out.iloc[0])
            and found["rewards/margins"].notna().sum() == 12
        )
        assert json.loads((folder / "first-step.json").read_text())["max_logit_difference"] < 1e-5
        assert not list((folder / "adapter").glob("ref*")), (
            "the reference is no part of the adapter"
        )
    assert all(launch.metrics(folder)["eval_loss"].notna().any() for folder in folders)


def test_a_killed_dpo_ends_as_an_undisturbed_one(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    p = staged(whole, train_stages=["sft", "dpo"], dpo_steps=9, dpo_lr=1e-3)
    launch.run(p, whole, 1, "sft")
    shutil.copytree(whole, cut)
    launch.run(p, whole, 2, "dpo")
    with pytest.raises(StudyError, match="failed: free some space"):
        launch.run(
            SimpleNamespace(**vars(p) | {"train_launcher": "python tests/faults/full_disk.py 6"}),
            cut,
            2,
            "dpo",
        )
    launch.run(p, cut, 2, "dpo")
    one, other = (
        load_file(folder / "stages/2-dpo/adapter/adapter_model.safetensors")
        for folder in (whole, cut)
    )
    assert len(one) == 28 and all(torch.equal(one[name], other[name]) for name in one)


def test_a_reference_that_is_another_model_is_refused(tmp_path):
    p = staged(tmp_path, train_stages=["sft", "dpo"])
    start = launch.run(p, tmp_path, 1, "sft") / "adapter"
    trainer = trainers.build(
        p,
        loading.located(tmp_path),
        *methods.rows_of("dpo", tmp_path, p, 2),
        tmp_path / "stage",
        SimpleNamespace(kind="dpo", seed=0, start=str(start)),
    )
    assert checks.rehearse(trainer) == pytest.approx(math.log(2), abs=1e-6)
    for name, weight in trainer.model.named_parameters():
        if ".ref." in name:
            weight.data += 0.05
    with pytest.raises(StudyError, match="the first loss of dpo is .* and not ln 2"):
        checks.rehearse(trainer)


def test_a_round_of_dpo_reads_its_own_sources_and_those_of_all(tmp_path):
    p = staged(
        tmp_path,
        train_stages=["sft", "dpo", "dpo"],
        data_holdout=0,
        dpo_rounds={"first": 1, "second": 2},
    )
    names = [name for name in ("first", "second", "each") for _ in range(5)]
    pairs = [
        {"prompt_ids": [1, n], "chosen_ids": [n, 2], "rejected_ids": [n + 1, 2], "source": name}
        for n, name in enumerate(names, 3)
    ]
    Dataset.from_list(pairs).save_to_disk(tmp_path / "preferences")
    shutil.rmtree(tmp_path / "data/preferences")
    shutil.move(tmp_path / "preferences", tmp_path / "data/preferences")
    read = [
        {ids[1] for ids in methods.rows_of("dpo", tmp_path, p, number)[0]["prompt_ids"]}
        for number in (2, 3)
    ]
    assert read == [{*range(3, 8), *range(13, 18)}, set(range(8, 18))]
    p.dpo_rounds = dict.fromkeys(("first", "second", "each"), 1)
    with pytest.raises(StudyError, match="dpo_rounds leaves round 2 without a pair"):
        methods.rows_of("dpo", tmp_path, p, 3)


def test_data_that_a_stage_lacks_is_one_sentence(tmp_path):
    p = staged(tmp_path, train_stages=["cpt", "dpo"])
    Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]).save_to_disk(
        tmp_path / "other/data/preferences"
    )
    with pytest.raises(
        StudyError, match="has the columns prompt, chosen, rejected, and stage dpo needs prompt_ids"
    ):
        methods.rows_of("dpo", tmp_path / "other", p, 2)
    with pytest.raises(StudyError, match="stage cpt reads data/text, which is not there"):
        methods.rows_of("cpt", tmp_path / "other", p, 1)
    rows, holdout = methods.rows_of("cpt", tmp_path, p, 1)
    assert (len(rows), len(holdout)) == (36, 4) and not {*map(str, rows["input_ids"])} & {
        *map(str, holdout["input_ids"])
    }


@pytest.mark.parametrize(
    "changes", [{"lora_rslora": True}, {"lora_dora": True}, {"lora_dtype": "bf16"}], ids=str
)
def test_variants_of_the_adapter_are_trained_saved_and_read_back(tmp_path, changes):
    p = study(tmp_path, sft_steps=3, sft_warmup=0.0, **changes)
    stage = launch.run(p, tmp_path, 1, "sft")
    written = json.loads((stage / "adapter/adapter_config.json").read_text())
    assert (written["use_rslora"], written["use_dora"]) == (p.lora_rslora, p.lora_dora)
    kinds = {str(w.dtype) for name, w in weights(tmp_path).items() if "magnitude" not in name}
    assert kinds == {"torch.bfloat16" if p.lora_dtype == "bf16" else "torch.float32"}
    assert len(weights(tmp_path)) == (42 if p.lora_dora else 28)
    assert json.loads((stage / "first-step.json").read_text())["max_logit_difference"] < 1e-2
    assert lora.adapter_table(stage / "adapter")["matrices"].sum() == 28


def test_other_seeds_have_folders_of_their_own_and_other_weights(tmp_path):
    p = study(tmp_path, train_seeds=[0, 7], sft_steps=3)
    one, other = (launch.run(p, tmp_path, 1, "sft", seed=seed) for seed in p.train_seeds)
    assert (one.name, other.name) == ("1-sft", "1-sft-seed7")
    one, other = (load_file(stage / "adapter/adapter_model.safetensors") for stage in (one, other))
    assert len(one) == 28 and not any(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_train_like_one_with_twice_the_accumulation(tmp_path):
    found = []
    for processes, launcher in (
        (1, "python"),
        (2, "torchrun --standalone --nproc_per_node 2"),
        (2, "accelerate launch --config_file params/accelerate/ddp.yml --main_process_port 0"),
    ):
        folder = tmp_path / launcher.split()[0]
        p = study(
            folder, sft_steps=4, sft_batch_size=8, train_micro_batch_size=2, train_launcher=launcher
        )
        stage = launch.run(p, folder, 1, "sft")
        assert json.loads((stage / "done.json").read_text())["world_size"] == processes
        found.append(
            (launch.metrics(stage).set_index("step")["loss"].dropna().tolist(), weights(folder))
        )
        steps = [
            line for line in (stage / "metrics.jsonl").read_text().splitlines() if '"loss"' in line
        ]
        assert len(steps) == 4, "one process writes"
    (losses, one), *others = found
    for other, two in others:
        assert losses == pytest.approx(other, rel=1e-4)
        assert len(one) == 28 and max((one[name] - two[name]).abs().max() for name in one) < 1e-3


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
        match="sft_batch_size 4 is no multiple of train_micro_batch_size 4 times 2 processes",
    ):
        launch.run(
            study(tmp_path / "other", **p.model_dump() | {"train_micro_batch_size": 4}),
            tmp_path / "other",
            1,
            "sft",
        )


def test_a_base_in_pieces_trains_as_a_whole_one_does(tmp_path):
    """FSDP + QLoRA by the launcher file itself, but for what has to be a GPU: two processes with half of the base each."""
    settings = yaml.safe_load((ROOT / "params/accelerate/fsdp-qlora.yml").read_text()) | {
        "use_cpu": True
    }
    settings["fsdp_config"] |= {
        "fsdp_cpu_ram_efficient_loading": False,
        "fsdp_sync_module_states": False,
    }
    (tmp_path / "fsdp.yml").write_text(yaml.safe_dump(settings))
    changes = dict(
        sft_steps=6,
        sft_batch_size=4,
        train_micro_batch_size=2,
        quant_compute_dtype="bfloat16",
        lora_dtype="bf16",
    )
    found = {}
    for launcher in (
        "python",
        f"accelerate launch --config_file {tmp_path}/fsdp.yml --main_process_port 0",
    ):
        folder = tmp_path / launcher.split()[0]
        stage = launch.run(study(folder, train_launcher=launcher, **changes), folder, 1, "sft")
        world_size = json.loads((stage / "done.json").read_text())["world_size"]
        assert templates.trained_in(stage / "adapter", "medalpaca") == "medalpaca"
        found[world_size] = (
            launch.metrics(stage).set_index("step")["loss"].dropna(),
            weights(folder),
        )
    (losses, whole), (others, pieces) = found[1], found[2]
    assert len(losses) == 6 and losses.to_numpy() == pytest.approx(others.to_numpy(), rel=1e-2)
    assert len(pieces) == 28 and {n: w.shape for n, w in pieces.items()} == {
        n: w.shape for n, w in whole.items()
    }
    moved = [
        torch.nn.functional.cosine_similarity(
            pieces[n].float().flatten(), whole[n].float().flatten(), dim=0
        )
        for n in pieces
        if "lora_B" in n
    ]  # which were zero
    assert len(moved) == 14 and min(moved) > 0.8


def test_every_launcher_file_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    found = {
        path.stem: load_config_from_file(str(path))
        for path in (ROOT / "params/accelerate").glob("*.yml")
    }
    assert {
        name: (config.num_machines, config.num_processes) for name, config in found.items()
    } == {"one": (1, 1), "ddp": (1, 2), "fsdp-qlora": (1, 2), "two-nodes": (2, 16)}
    assert found["fsdp-qlora"].fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    for path in (ROOT / "params/accelerate").glob("*.yml"):
        assert (
            f"train_launcher: accelerate launch --config_file params/accelerate/{path.name}"
            in path.read_text()
        )
