"""The plan of a stage that trains all weights."""

from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from sm70lib.models import loading
from sm70lib.planning import needs
from sm70lib.sizes import accelerators, activations, budget, budget_scoring, measured
from sm70lib.study import memory, params
from sm70lib.study.params import ROOT
from sm70lib.training.trainers import FULL
from tests import small

LLAMA = "meta-llama/Llama-2-70b-hf"
WHOLE = {"train_parameters": "full", "quant_type": "none"}
SHARED = "accelerate launch --config_file params/accelerate/fsdp2-full.yml --num_processes {}"


@pytest.mark.parametrize(
    "compute, dtype", [("float32", "fp32"), ("bfloat16", "fp32"), ("bfloat16", "bf16")]
)
def test_planned_activations_are_those_that_autograd_keeps(tmp_path, compute, dtype):
    p = small.base(
        tmp_path, quant_compute_dtype=compute, full_dtype=dtype, data_max_length=128, **WHOLE
    )
    loaded = loading.load(tmp_path / "base/model", dtype=FULL[dtype])
    own, kept = {weight.untyped_storage().data_ptr() for weight in loaded.parameters()}, {}
    sizes = {weight.shape for weight in loaded.parameters()}

    def keep(tensor):
        cast = tensor.shape in sizes or tensor.mT.shape in sizes  # a weight in 16 bits
        if tensor.untyped_storage().data_ptr() not in own and not cast:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    ids = torch.zeros(p.train_micro_batch_size, p.data_max_length, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute == "bfloat16"),
    ):
        loaded.train().model(input_ids=ids, use_cache=False)
    found = sum(storage.nbytes() for storage in kept.values())
    planned = activations.activations(loaded.config, p)["activations"]
    assert planned == pytest.approx(found, rel=0.1) and len(kept) > 30


def test_weights_gradients_and_adam_take_16_bytes_each_and_what_is_loaded_is_measured(tmp_path):
    p, base = small.base(tmp_path, **WHOLE), tmp_path / "base/model"
    planned = budget.plan(base, p).set_index("part")["planned_mb"]
    loaded = loading.load(base, p)
    weights = sum(weight.numel() for weight in loaded.parameters())
    states = planned[["other weights", "gradients", "optimiser state"]]
    assert states.sum() * budget.MB == 16 * weights
    found = measured.parts(loaded).set_index("part")["measured_mb"]
    assert planned["other weights"] == pytest.approx(found["other weights"])
    pairs = budget.plan(base, p, "dpo").set_index("part")["planned_mb"]
    assert pairs["reference model"] == planned["other weights"]


def test_70b_needs_many_cards_and_the_plan_says_what_each_of_them_holds():
    changes = {
        "quant_compute_dtype": "bfloat16",
        "data_max_length": 4096,
        "train_micro_batch_size": 1,
        "train_gradient_checkpointing": True,
    }
    alone = small.parameters(**WHOLE, **changes)
    assert budget.needed(LLAMA, alone) > 69e9 * (4 + 2 + 4 + 8)
    assert budget.advice(LLAMA, alone, 80e9).endswith("fsdp2-full.yml)")
    shared = small.parameters(**WHOLE, **changes, train_launcher=SHARED.format(32))
    each = budget.plan(LLAMA, shared).set_index("part")["planned_mb"] * budget.MB
    assert each["gradients"] == pytest.approx(4 * 69e9 / 32, rel=0.01)
    assert budget.advice(LLAMA, shared, 80e9) == "fits"
    hours = [accelerators.tokens(p, "sft") for p in (alone, small.parameters(**changes))]
    assert hours[0] == 1.5 * hours[1]


def test_the_plan_counts_an_adapter_from_elsewhere_by_its_own_size(tmp_path):
    """Of a study with all weights, which has no adapter, and of one with an adapter."""
    (tmp_path / "there").mkdir()
    save_file({"a": torch.zeros(1000, 1000)}, tmp_path / "there/adapter_model.safetensors")
    lines = {"plain": LLAMA, "with": f"{LLAMA} adapter={tmp_path / 'there'}"}
    lines["absent"] = f"{LLAMA} adapter={tmp_path / 'none'}"
    for more in ([ROOT / "tests/chain/full.yml"], []):
        files = [ROOT / "params/sm70-7b.yml", *more]
        study = params.load(*files, overrides={"study": "mine", "eval_models": lines})
        rows = {row.part: row for row in needs.rows(study)}
        size = partial(budget_scoring.scoring, LLAMA, study, False)
        assert rows["plain"].device_gb == memory.rounded_up(size(0))
        assert rows["with"].device_gb == memory.rounded_up(size(4e6))
        assert rows["absent"].device_gb is None


def test_the_plan_names_models_disk_and_gpus_of_a_study_with_all_weights():
    files = [ROOT / "params/sm70-7b.yml", ROOT / "tests/chain/full.yml"]
    study = params.load(*files, overrides={"train_launcher": SHARED.format(8)})
    rows = {row.part: row for row in needs.rows(study)}
    stages = [part for part in rows if part.startswith("stage ")]
    assert [part.split(", ")[0] for part in stages] == ["stage 1 cpt", "stage 2 sft", "stage 3 dpo"]
    assert all(part.endswith("each of 8 GPUs") for part in stages)
    weights = 6.74e9
    assert rows[stages[0]].disk_gb == pytest.approx(weights * (3 * 12 + 2) / 1e9, rel=0.01)
    assert {"base", "tuned-1-cpt", "tuned-2-sft", "tuned"} <= rows.keys()
    assert not [part for part in rows if "adapter" in part or "merging" in part]
