"""The memory that a training stage needs, planned before anything is loaded."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pandas as pd
import torch

from sm70lib.parameters.stages import STAGES
from sm70lib.sizes.shapes import Shape, adapted, configuration, shape
from sm70lib.study import memory

MB = 2**20
BLOCK = 64  # weights that share one constant in bitsandbytes
NESTED_BLOCK = 256  # constants that share one constant of the second level
CODEBOOK = 256 * 4 + 4  # bytes of the second level's own table and its offset, per layer
ADAM_BYTES = {
    "adamw_torch": 8,
    "paged_adamw_32bit": 8,
    "paged_adamw_8bit": 2,
    "adamw_bnb_8bit": 2,
    "rmsprop": 4,
}
# Tokens and vocabulary entries whose logits TRL 1.16 holds at once (its chunked_logprob.py)
TILE = (4096, 32768)
# What a study can change to need less memory. The first changes cost nothing, the next ones time,
# then precision, then capacity.
SAVES = {
    "train_micro_batch_size": 1,
    "train_gradient_checkpointing": True,
    "optimizer": "paged_adamw_8bit",
    "lora_dtype": "bf16",
    "lora_r": 8,
    "data_max_length": 512,
}
SEVERAL = "several GPUs by FSDP (train_launcher, params/accelerate/fsdp-qlora.yml)"
# Those of ATTENTION all read the same input, and so do those of GATED.
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
OUTPUT = "self_attn.o_proj"
GATED = ("mlp.gate_proj", "mlp.up_proj")
DOWN = "mlp.down_proj"


def tile_width(p) -> int:
    """Bytes of a number in the type that the study computes in."""
    return torch.finfo(getattr(torch, p.quant_compute_dtype)).bits // 8


def _lora_width(p) -> int:
    """Bytes of a LoRA weight."""
    return 4 if p.lora_dtype == "fp32" else 2


def main_stage(p) -> str:
    """The kind of stage that 02 plans: sft, or the first one of a study without it."""
    return "sft" if "sft" in p.train_stages else p.train_stages[0]


def plan(model, p, kind: str = "sft", continued: bool = False) -> pd.DataFrame:
    """Plans the memory of every part of a stage.

    NF4 takes half a byte per weight. The constants follow QLoRA (arXiv 2305.14314, section 3): one
    byte for 64 weights, and four more for 256 of those bytes; without double quantisation, four
    bytes for 64 weights. DoRA adds a magnitude for each output. What the driver and the allocator
    take comes on top.

    Args:
        model: Folder, hub name or configuration of the base.
        p: The study's parameters.
        kind: A kind of stage, such as sft.
        continued: Whether the stage goes on from an adapter; dpo then keeps a frozen copy of it.

    Returns:
        Columns part, parameters and planned_mb (MB of 2^20 bytes).
    """
    found = shape(model)
    width = _lora_width(p)
    quantised = found.quantisable if p.quant_type != "none" else 0
    others = found.weights - quantised
    lora = adapter_weights(found, p)
    rows: list[tuple[str, int, float]] = [
        ("NF4 weights", quantised, quantised / 2),
        ("quantisation constants", 0, constants(found, p)),
        ("other weights", others, others * tile_width(p)),
        ("LoRA weights", lora, lora * width),
        ("LoRA gradients", lora, lora * width),
        ("optimiser state", lora, lora * ADAM_BYTES[getattr(p, f"{kind}_optimizer")]),
    ]
    if STAGES[kind].reference and continued:
        rows.append(("reference adapter", lora, lora * width))
    rows += [(part, 0, size) for part, size in activations(configuration(model), p, kind).items()]
    frame = pd.DataFrame(rows, columns=["part", "parameters", "planned_mb"])
    return frame.assign(planned_mb=frame["planned_mb"] / MB)


def adapter_weights(found: Shape, p) -> int:
    """Number of weights of the adapter."""
    return sum(
        p.lora_r * inputs + (p.lora_r + p.lora_dora) * outputs
        for _, inputs, outputs in adapted(found, p.lora_targets)
    )


def constants(found: Shape, p) -> float:
    """Bytes of the quantisation constants."""
    if p.quant_type == "none":
        return 0.0
    blocks = [-(-inputs * outputs // BLOCK) for _, inputs, outputs in found.linear]
    if not p.quant_double:
        return 4.0 * sum(blocks)
    return float(sum(count + 4 * -(-count // NESTED_BLOCK) + CODEBOOK for count in blocks))


def activations(config, p, kind: str = "sft") -> dict[str, float]:
    """Bytes that a pass of a Llama with LoRA keeps for its longest batch.

    With checkpointing only the input of each layer is kept, and one layer at a time is computed
    again. `working space` is the largest matrix out of NF4 and the gradients of its products. The
    sum equals what autograd keeps (tests/unit/planning/test_plan.py).

    Args:
        config: The model's configuration.
        p: The study's parameters.
        kind: A kind of stage, such as sft; a pair has two answers.

    Returns:
        Bytes by part.
    """
    answers = 2 if STAGES[kind].reads == "pairs" else 1
    tokens = p.train_micro_batch_size * p.data_max_length * answers
    wide = tile_width(p)
    width, inner, _ = widths(config)
    layers = [_kept(config, p, number) for number in range(config.num_hidden_layers)]
    if p.train_gradient_checkpointing:
        kept = {
            "activations, a layer's input each": tokens * wide * width * len(layers),
            "activations, one layer again": tokens * max(layers),
        }
    else:
        kept = {"activations": tokens * sum(layers)}
    logits = min(tokens, TILE[0]) * min(config.vocab_size, TILE[1]) * (wide + 4)
    return kept | {"logits": logits, "working space": wide * inner * (width + 3 * tokens)}


def _kept(config, p, number: int) -> float:
    """Bytes that a layer keeps for each token.

    These are the inputs of both norms (32 bits), queries, keys and values, the output of attention,
    three feed-forward products, and the inputs of LoRA's matrices. The matrices share an input, or
    each has a copy if types differ or dropout (with its mask) comes between. The attention weights
    are never stored.
    """
    wide = tile_width(p)
    width, inner, keys = widths(config)
    every = p.lora_targets.lower() == "all-linear"
    targets = {
        kind
        for kind in (*ATTENTION, OUTPUT, *GATED, DOWN)
        if every or re.fullmatch(p.lora_targets, f"model.layers.{number}.{kind}")
    }
    down = inner * (DOWN in targets)
    copied = width * len(targets - {DOWN}) + down
    shared = width * (bool(targets & {*ATTENTION}) + bool(targets & {*GATED})) + down
    apart = p.lora_dropout > 0 or wide != _lora_width(p)
    norms = 8 * width + 4 * (config.num_attention_heads + 2)
    products = wide * (2 * width + keys + 3 * inner + len(targets) * p.lora_r)
    lora_inputs = wide * (copied if apart else shared)
    dropout_masks = copied * (p.lora_dropout > 0)
    return norms + products + lora_inputs + dropout_masks


def needed(model, p, kind: str = "sft", continued: bool = False) -> float:
    """Bytes that a stage needs, by `plan`."""
    return plan(model, p, kind, continued)["planned_mb"].sum() * MB


def verdict(model, p, kind: str = "sft") -> str:
    """Says in one line what is needed, what there is (GB, 10^9 bytes) and what to change."""
    there = memory.at_hand()
    return (
        f"{needed(model, p, kind) / 1e9:,.2f} GB of {there.gb:,.3g} GB in {there.where}: "
        f"{advice(model, p, there.gb * memory.GB, kind)}"
    )


def advice(model, p, there: float, kind: str = "sft", continued: bool = False) -> str:
    """Says that a stage fits into `there` bytes, or the fewest changes with which it does."""
    if needed(model, p, kind, continued) < there:
        return "fits"
    return f"does not fit; {less(model, p, there, kind, continued)}"


def less(model, p, there: float, kind: str = "sft", continued: bool = False) -> str:
    """The fewest changes with which a stage fits into `there` bytes, in the order of SAVES.

    There is at least one change. If all of them are too few, the answer is SEVERAL.
    """
    values = p.model_dump()
    changes: dict[str, object] = {}
    before = needed(model, p, kind, continued)
    for parameter, value in SAVES.items():
        name = f"{kind}_{parameter}" if parameter == "optimizer" else parameter
        if _saves_already(values[name], value):
            continue
        changed = SimpleNamespace(**values | changes | {name: value})
        after = needed(model, changed, kind, continued)
        if after < before:
            changes[name] = value
            before = after
            if after < there:
                return "change to " + ", ".join(f"{n} {v}" for n, v in changes.items())
    return SEVERAL


def _saves_already(now, saving) -> bool:
    """Whether a value is the saving one, or a number below it."""
    is_number = isinstance(saving, int) and not isinstance(saving, bool)
    return now == saving or (is_number and now < saving)


def widths(config) -> tuple[int, int, int]:
    """Widths of a layer: of its input, of its feed-forward part, and of keys and values together.

    Without a width in the configuration, the feed-forward part is four times as wide as the input.
    """
    width, heads = config.hidden_size, config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * width
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    head_width = getattr(config, "head_dim", None) or width // heads
    return width, inner, 2 * key_heads * head_width
