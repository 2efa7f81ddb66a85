"""The plan agrees with what is measured, and the verdict names what to change."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sm70lib import model, plan
from sm70lib.params import ROOT
from tests import small


@pytest.mark.parametrize("double", [True, False])
def test_plan_equals_measurement_part_by_part(tmp_path, double):
    p = small.base(tmp_path, quant_double=double)
    both = plan.plan(tmp_path / "base/model", p).merge(plan.measure(model.load(tmp_path / "base/model", p)), on="part")
    assert list(both["part"]) == ["NF4 weights", "quantisation constants", "other weights"]
    for row in both.itertuples():
        assert row.planned_mb == pytest.approx(row.measured_mb, rel=0.02), row.part


def test_what_does_not_fit_says_what_to_change(tmp_path, monkeypatch):
    p, base = small.base(tmp_path, train_micro_batch_size=8), tmp_path / "base/model"
    needed = plan.plan(base, p)["planned_mb"].sum() * plan.MB
    assert plan.verdict(base, p).endswith(": fits")
    monkeypatch.setattr(plan, "_available_bytes", lambda: needed - 1)
    assert plan.verdict(base, p).endswith("does not fit; change to train_micro_batch_size 1")
    assert "FSDP" in plan.advice(base, p, 1000)
    ways = [plan.advice(base, p, share * needed) for share in (1.01, 0.9, 0.1, 0.07)]
    assert ways[0] == "fits" and len(set(ways)) >= 3


@pytest.mark.parametrize("compute, lora", [("float32", "fp32"), ("bfloat16", "bf16"), ("bfloat16", "fp32")])
def test_planned_activations_are_those_that_autograd_keeps(tmp_path, compute, lora):
    p = small.base(tmp_path, quant_compute_dtype=compute, lora_dtype=lora, data_max_length=128)
    loaded = model.load(tmp_path / "base/model", p)
    wrapped = get_peft_model(loaded, LoraConfig(r=p.lora_r, target_modules="all-linear", task_type="CAUSAL_LM"))
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32 if lora == "fp32" else torch.bfloat16)
    own, kept = {weight.untyped_storage().data_ptr() for weight in wrapped.parameters()}, {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    ids = torch.zeros(p.train_micro_batch_size, p.data_max_length, dtype=torch.long)
    with (torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
          torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute == "bfloat16")):
        wrapped.train().base_model.model.model(input_ids=ids, use_cache=False)
    measured = sum(storage.nbytes() for storage in kept.values())
    planned = plan.activations(loaded.config, p)["activations"]
    assert planned == pytest.approx(measured, rel=0.1) and len(kept) > 40


LLAMA = "meta-llama/Llama-2-70b-hf"
SM70 = small.parameters(lora_r=64, lora_dtype="bf16", sft_optimizer="paged_adamw_8bit", quant_compute_dtype="bfloat16",
                        data_max_length=2048, train_micro_batch_size=1, train_gradient_checkpointing=True)


def test_70b_is_planned_without_weights_and_lands_where_its_parts_say():
    """828 M LoRA weights (r 64) and 36.4 GB of NF4 base and embeddings follow from the shape."""
    planned = plan.plan(LLAMA, SM70).set_index("part")
    assert planned.loc["LoRA weights", "parameters"] == pytest.approx(828e6, rel=1e-3)
    base = planned.loc[["NF4 weights", "quantisation constants", "other weights"], "planned_mb"].sum() * plan.MB
    assert base == pytest.approx(36.4e9, rel=0.01)
    assert planned.loc["activations, a layer's input each", "planned_mb"] * plan.MB == 80 * 2048 * 8192 * 2
    assert planned["planned_mb"].sum() / 1024 < 46, "GiB: the goal on one card at 2,048 tokens"
    table = plan.gpus(LLAMA, SM70).set_index("gpu")
    assert table.loc["H200", "verdict"] == table.loc["H100 80 GB", "verdict"] == "fits" and len(table) >= 7
    assert "does not fit" in table.loc["RTX 4090", "verdict"] and table.loc["H200", "hours_at_most"] != 0
    assert table["source"].str.contains("NVIDIA data sheet").all() and table["dollars"].isna().all()


def test_the_plan_is_within_a_tenth_of_what_a_gpu_needed():
    path = ROOT / "outputs/reference/benchmarks/gpu_70b.json"
    if not path.exists():
        pytest.skip("no GPU has been measured yet: python tests/benchmarks/gpu_70b.py")
    setting = {"recipe": "ours", "length": 2048, "checkpointing": True, "layout": "packed", "sequences": 1}
    measured, = json.loads(path.read_text())
    needed, = [row["peak_gib"] for row in measured["results"] if setting.items() <= row.items()]
    assert plan.plan(LLAMA, SM70)["planned_mb"].sum() / 1024 == pytest.approx(needed, rel=0.1)


def test_the_plan_agrees_with_the_adapter_that_training_makes(tmp_path):
    for dora in (False, True):
        p = small.base(tmp_path / str(dora), lora_dora=dora)
        loaded = model.load(tmp_path / str(dora) / "base/model", p)
        wrapped = get_peft_model(loaded, LoraConfig(r=p.lora_r, target_modules="all-linear", use_dora=dora))
        planned = plan.plan(tmp_path / str(dora) / "base/model", p).set_index("part").loc["LoRA weights", "parameters"]
        assert planned == sum(weight.numel() for weight in wrapped.parameters() if weight.requires_grad)


def test_every_linear_layer_but_the_head_is_quantised(tmp_path):
    p = small.base(tmp_path)
    table = plan.layers(model.load(tmp_path / "base/model", p))
    quantised = table[table["class"] == "Linear4bit"]
    assert set(quantised["layer"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert quantised["count"].sum() == 14 and set(quantised["stored_as"]) == {"uint8"}


def test_quantisation_error_is_nothing_for_the_same_model(tmp_path):
    small.base(tmp_path)
    found = plan.quantisation_error(str(tmp_path / "base/model"), model.load(tmp_path / "base/model"))
    assert found["kl_nats"] == pytest.approx(0, abs=1e-5) and found["agreement_pct"] == 100
