"""Training in this process: rows, gradients, keys, optimisers and variants of the adapter."""

import json
import math
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from datasets import Dataset, load_from_disk
from safetensors.torch import load_file
from transformers import TrainerCallback
from trl.trainer import utils

from sm70lib import sources
from sm70lib.corpus import tokens, training_set
from sm70lib.models import loading, lora
from sm70lib.parameters import stages
from sm70lib.sizes import accelerators
from sm70lib.steps import compared, keys
from sm70lib.study.params import ROOT, StudyError
from sm70lib.training import checks, launch, methods, trainers, watch
from tests import small
from tests.tuning import staged, study, train, weights


@pytest.mark.parametrize("left", ["done.json", "checkpoint-3"])
def test_a_stage_of_another_key_is_not_trained_over(tmp_path, left):
    p = study(tmp_path, sft_steps=6)
    stage = train(p, tmp_path)
    for path in (stage / "done.json", stage / "checkpoint-3", stage / "checkpoint-6"):
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = {path: path.stat().st_mtime_ns for path in stage.rglob("*")}
    for other, words in (
        (small.parameters(sft_steps=6, lora_alpha=16), "lora_alpha: 8 -> 16"),
        (small.parameters(sft_steps=9), "sft_steps: 6 -> 9"),
    ):
        with pytest.raises(StudyError, match=rf"1-sft was trained with something else \({words}\)"):
            train(other, tmp_path)
    shutil.rmtree(tmp_path / "data/train")
    Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 12).save_to_disk(
        tmp_path / "data/train"
    )
    with pytest.raises(StudyError, match="data/train changed"):
        train(p, tmp_path)
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
            if compared.difference(key, keys.of_stage(other, tmp_path, n, 0))
        }
        assert found == moved, name
    assert compared.difference(keys_of[3], keys.of_stage(p, tmp_path, 3, 7)).startswith(
        "train_seed: 0 -> 7"
    )
    shutil.rmtree(tmp_path / "data/preferences")
    shutil.copytree(tmp_path / "data/text", tmp_path / "data/preferences")
    assert {
        n
        for n, key in keys_of.items()
        if compared.difference(key, keys.of_stage(p, tmp_path, n, 0))
    } == {3, 4}


def test_the_saved_adapter_is_the_trained_one(tmp_path):
    p = study(tmp_path, sft_steps=3)
    stage = train(p, tmp_path)
    base = tmp_path / "base/model"
    bare, tuned = loading.load(base, p), loading.load(base, p, stage / "adapter")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert (bare(input_ids=ids).logits - tuned(input_ids=ids).logits).abs().max() > 1e-3


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
    """Each step changes weights: B alone in the first, as A gets no gradient while B is zero."""
    first_losses, trained = set(), {}
    for optimiser in get_args(stages.Optimizer):
        folder = tmp_path / optimiser
        p = study(folder, sft_steps=2, train_save_steps=1, sft_optimizer=optimiser)
        stage = train(p, folder)
        first_losses.add(launch.metrics(stage).set_index("step")["loss"].dropna()[1])
        one, two = (
            load_file(stage / f"checkpoint-{number}/adapter_model.safetensors") for number in (1, 2)
        )
        assert len(one) == 28 and one.keys() == two.keys()
        assert all(weight.any() for name, weight in one.items() if "lora_B" in name), optimiser
        assert not [name for name in one if torch.equal(one[name], two[name])], optimiser
        trained[optimiser] = two
    assert len(trained) == 5 and len(first_losses) == 1, "the first loss comes before any update"
    rms, adam = trained["rmsprop"], trained["adamw_torch"]
    assert not [name for name in rms if torch.equal(rms[name], adam[name])], "each its own way"


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimiser step."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.seen = {
                name: w.grad.clone() for name, w in model.named_parameters() if w.requires_grad
            }


def first_step(folder, rows, **changes) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one optimiser step over all of `rows`, with both LoRA matrices away
    from zero.
    """
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


def test_what_a_rehearsal_counts_is_forgotten(tmp_path):
    """The names are TRL's private ones: a version without them is noticed here."""
    p = study(tmp_path, sft_steps=1)
    rows, holdout = methods.rows_of("sft", tmp_path, p, 1)
    how = SimpleNamespace(kind="sft", seed=0, start=None)
    trainer = trainers.build(p, loading.located(tmp_path), rows, holdout, tmp_path / "stage", how)
    batch = trainer.data_collator([rows[0]]) | {"labels": torch.tensor([rows[0]["labels"]])}
    trainer.compute_loss(trainer.model.train(), batch)
    assert trainer._metrics["train"] and trainer._total_train_tokens == len(rows[0]["input_ids"])
    checks.rehearse(trainer, "sft")
    assert not trainer._metrics["train"] and trainer._total_train_tokens == 0


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
        data_parts={},
        data_leaks={},
        data_repeats={},
        data_holdout_documents={},
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


def mixed(folder):
    """Running text of three sources: 30 rows of 10 tokens, 40 of 20, and 50 of 8."""
    lengths = {"papers": (30, 10), "abstracts": (40, 20), "town": (50, 8)}
    rows = [
        {"input_ids": [n] * size, "labels": [n] * size, "source": name}
        for name, (count, size) in lengths.items()
        for n in range(count)
    ]
    Dataset.from_list(rows).save_to_disk(folder / "data/text")


def test_sources_of_text_are_read_in_the_proportion_of_their_tokens(tmp_path):
    mixed(tmp_path)
    whole = SimpleNamespace(cpt_mix={}, data_holdout=6, seed=0)
    table = methods.by_source("cpt", tmp_path, whole)
    assert table["tokens"].to_dict() == {"papers": 300, "abstracts": 800, "town": 400}
    mix = {"papers": 6.0, "abstracts": 3.0, "town": 1.0}
    p = SimpleNamespace(cpt_mix=mix, data_holdout=6, seed=0)
    table = methods.by_source("cpt", tmp_path, p)
    # the papers are scarcest for their part, and whole; 150 and 50 tokens are 7 and 6 rows at most
    assert table["rows"].to_dict() == {"papers": 30, "abstracts": 7, "town": 6}
    assert table["share"].round().to_dict() == {"papers": 61, "abstracts": 29, "town": 10}
    rows, held = methods.rows_of("cpt", tmp_path, p, 1)
    assert len(rows) + len(held) == 43 and len(held) == 4
    again, _ = methods.rows_of("cpt", tmp_path, p, 1)
    assert again["input_ids"] == rows["input_ids"], "the same seed draws the same rows"
    other, _ = methods.rows_of("cpt", tmp_path, SimpleNamespace(**vars(p) | {"seed": 1}), 1)
    assert other["input_ids"] != rows["input_ids"]
    drawn = [tuple(ids) for ids in [*rows["input_ids"], *held["input_ids"]]]
    assert len(set(drawn)) == len(drawn), "no row is read twice in a pass"
    lacking = SimpleNamespace(**vars(p) | {"cpt_mix": {"papers": 1.0, "abstracts": 1.0}})
    with pytest.raises(StudyError, match="cpt_mix names papers, abstracts, and data/text has rows"):
        methods.rows_of("cpt", tmp_path, lacking, 1)


def test_passes_count_rows_and_of_packed_rows_their_tokens(tmp_path):
    mixed(tmp_path)
    packed = {"cpt_mix": {}, "cpt_steps": 3, "cpt_batch_size": 4, "cpt_packing": True}
    p = SimpleNamespace(train_stages=["cpt"], data_holdout=0, seed=0, data_max_length=500, **packed)
    rows, _ = methods.rows_of("cpt", tmp_path, p, 1)
    assert methods.passes(p, 1, rows) == 3 * 4 * 500 / 1500
    p.cpt_packing = False
    assert methods.passes(p, 1, rows) == 3 * 4 / 120


def test_rounds_may_differ_in_length_and_each_key_has_its_own(tmp_path):
    p = staged(tmp_path, train_stages=["sft", "dpo", "dpo"], dpo_round_steps=[5, 2])
    assert [stages.steps_of(p, number) for number in (1, 2, 3)] == [p.sft_steps, 5, 2]
    assert accelerators.tokens(p, "dpo", 2) == 2.5 * accelerators.tokens(p, "dpo", 3)
    first, last = (keys.of_stage(p, tmp_path, number, 0) for number in (2, 3))
    assert (first["parameters"]["dpo_steps"], last["parameters"]["dpo_steps"]) == (5, 2)
    longer = SimpleNamespace(**vars(p) | {"dpo_round_steps": [5, 9]})
    assert keys.of_stage(longer, tmp_path, 2, 0) == first, "the first round is not trained again"
    assert keys.of_stage(longer, tmp_path, 3, 0) != last
    alike = SimpleNamespace(**vars(p) | {"dpo_round_steps": [], "dpo_steps": 5})
    assert keys.of_stage(alike, tmp_path, 2, 0) == first
    described = json.loads((launch.describe(p, tmp_path, 3, "dpo", 0) / "stage.json").read_text())
    assert described["params"]["dpo_steps"] == 2


def test_a_launcher_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(
        StudyError, match="train_launcher: there is no program nosuch; give python, torchrun"
    ):
        launch.run(study(tmp_path, train_launcher="nosuch run"), tmp_path, 1, "sft")
    assert launch.launcher("torchrun --nproc_per_node 2")[1:] == ["--nproc_per_node", "2"]


def test_a_reference_that_is_another_model_is_refused(tmp_path):
    p = staged(tmp_path, train_stages=["sft", "dpo"])
    start = train(p, tmp_path) / "adapter"
    trainer = trainers.build(
        p,
        loading.located(tmp_path),
        *methods.rows_of("dpo", tmp_path, p, 2),
        tmp_path / "stage",
        SimpleNamespace(kind="dpo", seed=0, start=str(start)),
    )
    assert checks.rehearse(trainer, "dpo") == pytest.approx(math.log(2), abs=1e-6)
    for name, weight in trainer.model.named_parameters():
        if ".ref." in name:
            weight.data += 0.05
    with pytest.raises(StudyError, match="the first loss of this stage is .* and not ln 2"):
        checks.rehearse(trainer, "dpo")


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


def test_flipped_labels_exchange_the_answers_and_are_another_stage(tmp_path):
    p = staged(tmp_path, train_stages=["sft", "dpo", "dpo"])
    rows, _ = methods.rows_of("dpo", tmp_path, p, 2)
    key = keys.of_stage(p, tmp_path, 2, 0)
    assert "dpo_flipped" not in key["parameters"], "stages from before it was there keep their keys"
    p.dpo_flipped = True
    flipped, _ = methods.rows_of("dpo", tmp_path, p, 2)
    assert flipped["chosen_ids"][:] == rows["rejected_ids"][:] != rows["chosen_ids"][:]
    assert flipped["prompt_ids"][:] == rows["prompt_ids"][:]
    other = keys.of_stage(p, tmp_path, 2, 0)
    assert compared.difference(key, other) == "dpo_flipped: False -> True"
    assert compared.difference(other, key) == "dpo_flipped: True -> False"
    assert compared.difference(key, keys.of_stage(p, tmp_path, 1, 0)) != ""
    p.dpo_flipped = False
    first = keys.of_stage(p, tmp_path, 1, 0)
    p.dpo_flipped = True
    assert keys.of_stage(p, tmp_path, 1, 0) == first, "supervised tuning is shared by both"


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
    stage = train(p, tmp_path)
    written = json.loads((stage / "adapter/adapter_config.json").read_text())
    assert (written["use_rslora"], written["use_dora"]) == (p.lora_rslora, p.lora_dora)
    kinds = {str(w.dtype) for name, w in weights(tmp_path).items() if "magnitude" not in name}
    assert kinds == {"torch.bfloat16" if p.lora_dtype == "bf16" else "torch.float32"}
    assert len(weights(tmp_path)) == (42 if p.lora_dora else 28)
    assert json.loads((stage / "first-step.json").read_text())["max_logit_difference"] < 1e-2
    assert lora.adapter_table(stage / "adapter")["matrices"].sum() == 28


def test_other_seeds_have_folders_of_their_own_and_other_weights(tmp_path):
    p = study(tmp_path, train_seeds=[0, 7], sft_steps=3)
    one, other = (train(p, tmp_path, seed=seed) for seed in p.train_seeds)
    assert (one.name, other.name) == ("1-sft", "1-sft-seed7")
    one, other = (load_file(stage / "adapter/adapter_model.safetensors") for stage in (one, other))
    assert len(one) == 28 and not any(torch.equal(one[name], other[name]) for name in one)


def test_every_launcher_file_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    found = {
        path.stem: load_config_from_file(str(path))
        for path in (ROOT / "params/accelerate").glob("*.yml")
    }
    assert {
        name: (config.num_machines, config.num_processes) for name, config in found.items()
    } == {
        "one": (1, 1),
        "ddp": (1, 2),
        "fsdp-qlora": (1, 2),
        "fsdp2-full": (1, 2),
        "two-nodes": (2, 16),
    }
    assert found["fsdp-qlora"].fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    for path in (ROOT / "params/accelerate").glob("*.yml"):
        assert (
            f"train_launcher: accelerate launch --config_file params/accelerate/{path.name}"
            in path.read_text()
        )
