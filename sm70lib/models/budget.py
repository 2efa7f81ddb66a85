"""What a model needs to be loaded, trained on, merged and scored with, before anything is."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pandas as pd
import torch

from sm70lib.models.shapes import Shape, adapted, configuration, shape
from sm70lib.study import memory

MB = 2**20
BLOCK = 64  # weights that share one constant in bitsandbytes
NESTED_BLOCK = 256  # constants that share one constant of the second level
CODEBOOK = 256 * 4 + 4  # the second level's own table and its offset, per layer
ADAM_BYTES = {
    "adamw_torch": 8,
    "paged_adamw_32bit": 8,
    "paged_adamw_8bit": 2,
    "adamw_bnb_8bit": 2,
    "rmsprop": 4,
}
TILE = (
    4096,
    32768,
)  # tokens and vocabulary entries whose logits TRL 1.16 holds at once (its chunked_logprob.py)
# What a study can change to need less, in the order of what it costs: nothing, time, precision,
# capacity.
SAVES = {
    "train_micro_batch_size": 1,
    "train_gradient_checkpointing": True,
    "optimizer": "paged_adamw_8bit",
    "lora_dtype": "bf16",
    "lora_r": 8,
    "data_max_length": 512,
}
SEVERAL = "several GPUs by FSDP (train_launcher, params/accelerate/fsdp-qlora.yml)"
ATTENTION = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
)  # these read one and the same input,
OUTPUT = "self_attn.o_proj"
GATED = ("mlp.gate_proj", "mlp.up_proj")  # and so do these
DOWN = "mlp.down_proj"


def tile_width(p) -> int:
    return torch.finfo(getattr(torch, p.quant_compute_dtype)).bits // 8


# ---- training ------------------------------------------------------------------------------


def plan(model, p, kind: str = "sft", continued: bool = False) -> pd.DataFrame:
    """Planned bytes of every part of a stage in MB (2^20): columns part, parameters, planned_mb.

    NF4 takes half a byte a weight; the constants follow QLoRA (arXiv 2305.14314, section 3): one
    byte for 64 weights, four more for 256 of those bytes; without double quantisation four bytes
    for 64 weights. DoRA adds a magnitude for each output. A stage of dpo that goes on from an
    adapter (`continued`) keeps a frozen copy of it. What the driver and the allocator take comes
    on top.
    """
    found, width = shape(model), 4 if p.lora_dtype == "fp32" else 2
    quantised = found.quantisable if p.quant_type != "none" else 0
    lora, others = adapter_weights(found, p), found.weights - quantised
    rows = [
        ("NF4 weights", quantised, quantised / 2),
        ("quantisation constants", 0, constants(found, p)),
        ("other weights", others, others * tile_width(p)),
        ("LoRA weights", lora, lora * width),
        ("LoRA gradients", lora, lora * width),
        ("optimiser state", lora, lora * ADAM_BYTES[getattr(p, f"{kind}_optimizer")]),
    ]
    if kind == "dpo" and continued:
        rows.append(("reference adapter", lora, lora * width))
    rows += [(part, 0, size) for part, size in activations(configuration(model), p, kind).items()]
    frame = pd.DataFrame(rows, columns=["part", "parameters", "planned_mb"])
    return frame.assign(planned_mb=frame["planned_mb"] / MB)


def adapter_weights(found: Shape, p) -> int:
    """Weights of the adapter."""
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
    """Bytes that a pass of a Llama with LoRA keeps for its longest batch (dpo: two answers).

    With checkpointing only a layer's input is kept, and one layer at a time is computed again.
    `working space`: the largest matrix out of NF4 and the gradients of its products. Equals what
    autograd keeps (tests/test_plan.py).
    """
    tokens, wide = (
        p.train_micro_batch_size * p.data_max_length * (2 if kind == "dpo" else 1),
        tile_width(p),
    )
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

    The inputs of both norms (32 bits), queries, keys, values, what attention gave, three
    feed-forward products, and what goes into LoRA's matrices: shared, or a copy for each of them
    where types differ or dropout (with its mask) comes between. Attention itself is never stored.
    """
    wide, (width, inner, keys) = tile_width(p), widths(config)
    every = p.lora_targets.lower() == "all-linear"
    targets = {
        kind
        for kind in (*ATTENTION, OUTPUT, *GATED, DOWN)
        if every or re.fullmatch(p.lora_targets, f"model.layers.{number}.{kind}")
    }
    copied = width * len(targets - {DOWN}) + inner * (DOWN in targets)
    shared = width * (bool(targets & {*ATTENTION}) + bool(targets & {*GATED})) + inner * (
        DOWN in targets
    )
    apart = p.lora_dropout > 0 or wide != (4 if p.lora_dtype == "fp32" else 2)
    return (
        8 * width
        + 4 * (config.num_attention_heads + 2)
        + wide * (2 * width + keys + 3 * inner + len(targets) * p.lora_r)
        + wide * (copied if apart else shared)
        + copied * (p.lora_dropout > 0)
    )


def needed(model, p, kind: str = "sft", continued: bool = False) -> float:
    """Bytes that a stage needs."""
    return plan(model, p, kind, continued)["planned_mb"].sum() * MB


def verdict(model, p) -> str:
    """One sentence: what is needed, what there is (GB, 10^9 bytes), and what to change."""
    there = memory.at_hand()
    return (
        f"{needed(model, p) / 1e9:,.2f} GB of {there.gb:,.3g} GB in {there.where}: "
        f"{advice(model, p, there.gb * memory.GB)}"
    )


def advice(model, p, there: float, kind: str = "sft", continued: bool = False) -> str:
    """`fits`, or the fewest changes (in the order of SAVES) to fit into `there` bytes."""
    if needed(model, p, kind, continued) < there:
        return "fits"
    return f"does not fit; {less(model, p, there, kind, continued)}"


def less(model, p, there: float, kind: str = "sft", continued: bool = False) -> str:
    """The fewest changes with which a stage fits into `there` bytes, one at least."""
    values, changed = p.model_dump(), {}
    before = needed(model, p, kind, continued)
    for parameter, value in SAVES.items():
        name = f"{kind}_{parameter}" if parameter == "optimizer" else parameter
        if (
            values[name] == value
            or isinstance(value, int)
            and not isinstance(value, bool)
            and values[name] < value
        ):
            continue
        after = needed(model, SimpleNamespace(**values | changed | {name: value}), kind, continued)
        if after < before:
            changed, before = changed | {name: value}, after
            if after < there:
                return "change to " + ", ".join(f"{n} {v}" for n, v in changed.items())
    return SEVERAL


def widths(config) -> tuple[int, int, int]:
    """Width of a layer, of its feed-forward part (else four times that), of keys, values."""
    width, heads = config.hidden_size, config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return (
        width,
        getattr(config, "intermediate_size", None) or 4 * width,
        2 * shared * (getattr(config, "head_dim", None) or width // heads),
    )
