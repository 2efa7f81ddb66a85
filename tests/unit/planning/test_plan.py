"""The plan agrees with what is measured, and the verdict names what to change."""

import json
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from sm70lib.models import loading, local
from sm70lib.models.request import Request
from sm70lib.sizes import accelerators, activations, budget, budget_scoring, known, measured, shapes
from sm70lib.study import memory
from sm70lib.study.params import ROOT, StudyError
from tests import small


@pytest.mark.parametrize("double", [True, False])
def test_plan_equals_measurement_part_by_part(tmp_path, double):
    p = small.base(tmp_path, quant_double=double)
    both = budget.plan(tmp_path / "base/model", p).merge(
        measured.parts(loading.load(tmp_path / "base/model", p)), on="part"
    )
    assert list(both["part"]) == ["NF4 weights", "quantisation constants", "other weights"]
    for row in both.itertuples():
        assert row.planned_mb == pytest.approx(row.measured_mb, rel=0.02), row.part


def test_what_does_not_fit_says_what_to_change(tmp_path, monkeypatch):
    p, base = small.base(tmp_path, train_micro_batch_size=8), tmp_path / "base/model"
    needed = budget.plan(base, p)["planned_mb"].sum() * budget.MB
    assert budget.verdict(base, p).endswith(": fits")
    monkeypatch.setenv(memory.LIMIT, str((needed - 1) / memory.GB))
    assert budget.verdict(base, p).endswith("does not fit; change to train_micro_batch_size 1")
    assert "FSDP" in budget.advice(base, p, 1000)
    ways = [budget.advice(base, p, share * needed) for share in (1.01, 0.9, 0.1, 0.07)]
    assert ways[0] == "fits" and len(set(ways)) >= 3


def test_a_change_never_raises_what_is_lower_already_and_saves_something(tmp_path):
    p, base = (
        small.base(tmp_path, data_max_length=300, lora_r=4, sft_optimizer="adamw_bnb_8bit"),
        tmp_path / "base/model",
    )
    said = budget.changes_to_fit(base, p, budget_scoring.loaded(base, p) + 1)
    for value in ("data_max_length 512", "lora_r 8", "paged_adamw_8bit"):
        assert value not in said
    fitting = budget.changes_to_fit(base, p, 10**12)
    assert fitting == "change to train_micro_batch_size 1", (
        "it ran out of memory although the plan says it fits"
    )


TARGETS = (
    "all-linear",
    r".*\.(q_proj|v_proj)",
    r".*mlp\..*_proj",
    r"model\.layers\.0\..*_proj",
    r".*down_proj",
)


@pytest.mark.parametrize(
    "compute, lora, targets",
    [
        ("float32", "fp32", "all-linear"),
        ("bfloat16", "bf16", "all-linear"),
        ("bfloat16", "fp32", "all-linear"),
        ("float32", "fp32", TARGETS[1]),
        ("bfloat16", "fp32", TARGETS[1]),
    ],
)
def test_planned_activations_are_those_that_autograd_keeps(tmp_path, compute, lora, targets):
    p = small.base(
        tmp_path,
        quant_compute_dtype=compute,
        lora_dtype=lora,
        data_max_length=128,
        lora_targets=targets,
    )
    loaded = loading.load(tmp_path / "base/model", p)
    wrapped = get_peft_model(
        loaded, LoraConfig(r=p.lora_r, target_modules=targets, task_type="CAUSAL_LM")
    )
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32 if lora == "fp32" else torch.bfloat16)
    own, kept = {weight.untyped_storage().data_ptr() for weight in wrapped.parameters()}, {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    ids = torch.zeros(p.train_micro_batch_size, p.data_max_length, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute == "bfloat16"),
    ):
        wrapped.train().base_model.model.model(input_ids=ids, use_cache=False)
    measured = sum(storage.nbytes() for storage in kept.values())
    planned = activations.activations(loaded.config, p)["activations"]
    assert planned == pytest.approx(measured, rel=0.1) and len(kept) > 30


LLAMA = "meta-llama/Llama-2-70b-hf"
SM70 = small.parameters(
    lora_r=64,
    lora_dtype="bf16",
    sft_optimizer="paged_adamw_8bit",
    quant_compute_dtype="bfloat16",
    data_max_length=2048,
    train_micro_batch_size=1,
    train_gradient_checkpointing=True,
)


def test_70b_is_planned_without_weights_and_lands_where_its_parts_say():
    """828 M LoRA weights (r 64) and 36.4 GB of NF4 base and embeddings follow from the shape."""
    planned = budget.plan(LLAMA, SM70).set_index("part")
    assert planned.loc["LoRA weights", "parameters"] == pytest.approx(828e6, rel=1e-3)
    base = (
        planned.loc[["NF4 weights", "quantisation constants", "other weights"], "planned_mb"].sum()
        * budget.MB
    )
    assert base == pytest.approx(36.4e9, rel=0.01)
    assert (
        planned.loc["activations, a layer's input each", "planned_mb"] * budget.MB
        == 80 * 2048 * 8192 * 2
    )
    assert planned["planned_mb"].sum() / 1024 < 46, "GiB: the goal on one card at 2,048 tokens"
    table = accelerators.gpus(LLAMA, SM70).set_index("gpu")
    assert (
        table.loc["H200", "verdict"] == table.loc["H100 80 GB", "verdict"] == "fits"
        and len(table) >= 7
    )
    assert (
        "does not fit" in table.loc["RTX 4090", "verdict"]
        and table.loc["H200", "hours_at_most"] != 0
    )
    assert table["source"].str.contains("NVIDIA data sheet").all() and table["dollars"].isna().all()


def test_the_plan_is_within_a_tenth_of_what_a_gpu_needed():
    setting = {
        "recipe": "ours",
        "length": 2048,
        "checkpointing": True,
        "layout": "packed",
        "sequences": 1,
    }
    (measured,) = json.loads((ROOT / "outputs/reference/benchmarks/gpu_70b.json").read_text())
    (needed,) = [row["peak_gib"] for row in measured["results"] if setting.items() <= row.items()]
    assert budget.plan(LLAMA, SM70)["planned_mb"].sum() / 1024 == pytest.approx(needed, rel=0.1)


@pytest.mark.parametrize("targets", TARGETS)
def test_the_plan_agrees_with_the_adapter_that_training_makes(tmp_path, targets):
    for dora in (False, True):
        p = small.base(tmp_path / str(dora), lora_dora=dora, lora_targets=targets)
        base = tmp_path / str(dora) / "base/model"
        wrapped = get_peft_model(
            loading.load(base, p), LoraConfig(r=p.lora_r, target_modules=targets, use_dora=dora)
        )
        planned = budget.plan(base, p).set_index("part").loc["LoRA weights", "parameters"]
        assert planned == sum(
            weight.numel() for weight in wrapped.parameters() if weight.requires_grad
        )
        wrapped.save_pretrained(tmp_path / "adapter")
        assert (
            budget_scoring.saved_adapter_bytes(tmp_path / "adapter")
            == budget_scoring.adapter_bytes(base, p)
            == 4 * planned
        )


def test_targets_that_fit_no_layer_are_one_sentence(tmp_path):
    p = small.base(tmp_path, lora_targets="q_proj")  # PEFT looks for a whole name
    with pytest.raises(
        StudyError,
        match="lora_targets 'q_proj' fits the whole name of no layer, such as model.layers.0",
    ):
        budget.plan(tmp_path / "base/model", p)


def test_a_pair_is_two_answers_and_a_round_that_goes_on_keeps_a_frozen_copy(tmp_path):
    p, base = small.base(tmp_path, dpo_optimizer="paged_adamw_8bit"), tmp_path / "base/model"
    sft, first, second = (
        budget.plan(base, p, *which).set_index("part")["planned_mb"]
        for which in (("sft",), ("dpo",), ("dpo", True))
    )
    assert (
        first["activations"] == 2 * sft["activations"]
        and first["optimiser state"] == sft["optimiser state"] / 4
    )
    assert (
        "reference adapter" not in first
        and second["reference adapter"] == second["LoRA weights"] == sft["LoRA weights"]
    )


def test_every_linear_layer_but_the_head_is_quantised(tmp_path):
    p = small.base(tmp_path)
    table = measured.layers(loading.load(tmp_path / "base/model", p))
    quantised = table[table["class"] == "Linear4bit"]
    assert set(quantised["layer"]) == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert quantised["count"].sum() == 14 and set(quantised["stored_as"]) == {"uint8"}


def test_quantisation_error_is_nothing_for_the_same_model_and_unknown_without_memory(
    tmp_path, monkeypatch, capsys
):
    p, base = small.base(tmp_path), str(tmp_path / "base/model")
    said = measured.sample_with_logprobs(base)
    found = measured.quantisation_error(said, loading.load(base))
    assert found["kl_nats"] == pytest.approx(0, abs=1e-5) and found["agreement_pct"] == 100
    assert measured.quantisation_error(said, measured.quantised(base, p))["kl_nats"] > 0
    monkeypatch.setenv(memory.LIMIT, "0.0001")
    assert measured.sample_with_logprobs(base) is None and measured.quantised(base, p) is None
    assert (
        measured.quantisation_error(None, None).isna().all()
        and measured.parts(None)["measured_mb"].isna().all()
    )
    assert capsys.readouterr().out.count("is not loaded: it needs 0.0") == 2


# ---- scoring, and which card holds what ----------------------------------------------------------


class Live(TorchDispatchMode):
    """The most bytes that tensors made inside held at one time."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.seen = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(found):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.seen:
                self.seen.add(storage._cdata)
                self.now, self.most = (
                    self.now + storage.nbytes(),
                    max(self.most, self.now + storage.nbytes()),
                )
                weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
        return found

    def gone(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


ASKED = {"eval_batch_tokens": 4096, "eval_protocols": ["harness"], "eval_shots": [0]}


@pytest.mark.parametrize("adapter", [False, True])
def test_what_scoring_holds_is_within_the_plan(tmp_path, adapter):
    p = small.base(
        tmp_path,
        base_hidden_size=128,
        base_heads=4,
        base_kv_heads=2,
        base_intermediate_size=384,
        base_layers=3,
        base_context=4096,
        **ASKED,
    )
    base = tmp_path / "base/model"
    loaded = loading.load(base, p)
    if adapter:
        loaded = get_peft_model(
            loaded, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        ).eval()
    requests = [Request([5] * 250, [[7], [8], [9], [10]]) for _ in range(16)]
    with Live() as live:
        local.loglikelihoods(loaded, requests)
    planned = budget_scoring.scoring(
        base, p, True, 1.0 if adapter else 0.0
    ) - budget_scoring.loaded(base, p)
    assert live.most <= planned <= 1.5 * live.most and planned > 20e6


def test_where_the_model_writes_or_sees_shots_its_keys_and_values_count(tmp_path):
    small.base(tmp_path)
    base, sizes = tmp_path / "base/model", []
    for changes in ({}, {"eval_shots": [0, 5]}, {"eval_protocols": ["harness", "safety"]}):
        sizes.append(budget_scoring.scoring(base, small.parameters(**ASKED | changes), True, 0))
    keys = 2 * 2 * 32 * 4  # keys and values, two layers, one shared head of 32, 32 bits
    assert sizes[1] - sizes[0] == 512 * keys and sizes[2] - sizes[0] == 4096 * keys


def test_batches_shrink_before_a_model_is_left_out(tmp_path):
    p, base = small.base(tmp_path, **ASKED), tmp_path / "base/model"
    sizes = {
        tokens: memory.rounded_up(budget_scoring.scoring(base, p, True, 0, tokens))
        for tokens in (4096, 2048, 512)
    }
    found = [
        budget_scoring.batch_tokens(base, p, True, 0, gb)
        for gb in (sizes[4096], sizes[2048], sizes[512], sizes[512] - 0.001)
    ]
    assert found == [4096, 2048, 512, None] and len(set(sizes.values())) == 3


def test_a_model_here_comes_before_the_table_and_a_table_before_the_hub(tmp_path, monkeypatch):
    asked = []

    def read(name, local_files_only=False, **how):
        asked.append((name, local_files_only))
        raise OSError("not here")

    monkeypatch.setattr(shapes.AutoConfig, "from_pretrained", read)
    assert shapes.configuration(LLAMA).hidden_size == 8192 and asked == [(LLAMA, True)]
    with pytest.raises(OSError):
        shapes.configuration(LLAMA, guess=False)
    assert asked[1:] == [(LLAMA, True), (LLAMA, False)], (
        "what is loaded is what the hub says, not the table"
    )
    small.base(tmp_path)
    monkeypatch.undo()
    assert shapes.configuration(tmp_path / "base/model").hidden_size == 64
    assert shapes.shape(LLAMA).weights == 68_976_648_192 and len(known.MODELS) >= 8
    apertus = {size: shapes.shape(f"swiss-ai/Apertus-{size}B-Instruct-2509") for size in (8, 70)}
    assert apertus[8].weights == pytest.approx(8.05e9, rel=1e-3), (
        "without a gate, as xIELU has none"
    )
    assert apertus[70].weights == pytest.approx(70.6e9, rel=1e-3)
