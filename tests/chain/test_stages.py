"""Stages trained in this process: gradients, optimisers, variants of the adapter, what is saved."""

import json
import math
import shutil
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from datasets import Dataset, load_from_disk
from safetensors.torch import load_file
from transformers import TrainerCallback
from trl.trainer import utils

from sm70lib import sources
from sm70lib.corpus import tokens
from sm70lib.models import layers, loading
from sm70lib.parameters import stages
from sm70lib.preparing import training_set
from sm70lib.study.params import StudyError
from sm70lib.training import checks, launch, trainers
from sm70lib.training.rows import rows_of
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


def test_the_saved_adapter_is_the_trained_one(tmp_path):
    p = study(tmp_path, sft_steps=3)
    stage = train(p, tmp_path)
    base = tmp_path / "base/model"
    bare, tuned = loading.load(base, p), loading.load(base, p, stage / "adapter")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert (bare(input_ids=ids).logits - tuned(input_ids=ids).logits).abs().max() > 1e-3


def test_an_adapter_names_its_base_without_a_path_of_this_machine(tmp_path):
    """Whoever gets the adapter would read the name of a home folder in it."""
    folder = tmp_path / "mine"
    stage = train(study(folder, sft_steps=3), folder)
    about = json.loads((stage / "adapter/adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == "outputs/mine/base/model"
    card = (stage / "adapter/README.md").read_text()
    assert "base_model: outputs/mine/base/model" in card
    written = [path for path in (stage / "adapter").iterdir() if path.suffix != ".safetensors"]
    assert len(written) >= 3 and not [path for path in written if str(tmp_path) in path.read_text()]
    loaded = loading.load(folder / "base/model", adapter=stage / "adapter")
    assert loaded.peft_config["default"].r == 4
    for model, name in {"/home/me/llama": "llama", "org/name": "org/name"}.items():
        (folder / "base/base.json").write_text(json.dumps({"model": model}))
        assert loading.public_name(folder) == name


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


def test_a_reference_that_is_another_model_is_refused(tmp_path):
    p = staged(tmp_path, train_stages=["sft", "dpo"])
    start = train(p, tmp_path) / "adapter"
    trainer = trainers.build(
        p,
        loading.located(tmp_path),
        *rows_of("dpo", tmp_path, p, 2),
        tmp_path / "stage",
        SimpleNamespace(kind="dpo", seed=0, start=str(start)),
    )
    assert checks.rehearse(trainer, "dpo") == pytest.approx(math.log(2), abs=1e-6)
    for name, weight in trainer.model.named_parameters():
        if ".ref." in name:
            weight.data += 0.05
    with pytest.raises(StudyError, match="the first loss of this stage is .* and not ln 2"):
        checks.rehearse(trainer, "dpo")


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
    assert layers.adapter_table(stage / "adapter")["matrices"].sum() == 28


def test_other_seeds_have_folders_of_their_own_and_other_weights(tmp_path):
    p = study(tmp_path, train_seeds=[0, 7], sft_steps=3)
    one, other = (train(p, tmp_path, seed=seed) for seed in p.train_seeds)
    assert (one.name, other.name) == ("1-sft", "1-sft-seed7")
    one, other = (load_file(stage / "adapter/adapter_model.safetensors") for stage in (one, other))
    assert len(one) == 28 and not any(torch.equal(one[name], other[name]) for name in one)
