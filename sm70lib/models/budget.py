"""What a model needs to be loaded, trained on, merged and scored with, before anything is."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from safetensors import safe_open

from sm70lib import protocols
from sm70lib.models.loading import READ
from sm70lib.models.shapes import Shape, adapted, configuration, shape, stored_bytes
from sm70lib.protocols.protocol import Protocol
from sm70lib.study import memory
from sm70lib.study.params import ROOT

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


def _wide(p) -> int:
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
        ("other weights", others, others * _wide(p)),
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
        _wide(p),
    )
    width, inner, _ = _widths(config)
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
    wide, (width, inner, keys) = _wide(p), _widths(config)
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


# ---- loading, merging, scoring -------------------------------------------------------------


def loaded(model, p, guess: bool = True) -> float:
    """Bytes of the base as `p` quantises it; `p` None: in its checkpoint's own precision."""
    found = shape(model, guess)
    if p is None:
        return found.weights * stored_bytes(model, guess)
    quantised = found.quantisable if p.quant_type != "none" else 0
    return quantised / 2 + constants(found, p) + (found.weights - quantised) * _wide(p)


def load_peak(model, p, guess: bool = True) -> float:
    """Bytes while a base is quantised: one matrix at a time is whole (transformers 5.23)."""
    whole = (
        shape(model, guess).largest * stored_bytes(model, guess) if p.quant_type != "none" else 0
    )
    return loaded(model, p, guess) + whole


def compared(model, guess: bool = True, rows: int = 8, tokens: int = 129) -> float:
    """Bytes in which the full base is compared: weights, logits and their log-probabilities."""
    return (
        loaded(model, None, guess) + 2 * 4 * rows * tokens * configuration(model, guess).vocab_size
    )


def adapter_bytes(model, p) -> float:
    """Bytes of the study's adapter once it is read: PEFT makes 32 bits of 16."""
    return 4.0 * adapter_weights(shape(model), p)


def saved_adapter_bytes(folder: Path) -> float:
    """The same of an adapter that there is."""
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return 4.0 * sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def merging(model, p) -> float:
    """Bytes of RAM in which an adapter is merged: base, adapter, one product."""
    return loaded(model, None) + adapter_bytes(model, p) + 4 * shape(model).largest


def scoring(
    model, p, quantised: bool, adapter: float, tokens: int | None = None, guess: bool = True
) -> float:
    """Bytes to score a model and its `adapter` in batches of `tokens` (`eval_batch_tokens`).

    To the weights comes what a pass without gradients holds: inputs and products of one
    feed-forward layer (beside an adapter also PEFT's, in 32 bits), a matrix out of NF4, logits of a
    few places, and keys and values: of all tokens where the model writes, else of the shots that
    prompts share.
    """
    config, found, asked = (
        configuration(model, guess).get_text_config(),
        shape(model, guess),
        _asked(p),
    )
    width, inner, keys = _widths(config)
    wide = _wide(p) if quantised else stored_bytes(model, guess)
    context = longest(model, p, guess)
    tokens = max(tokens or p.eval_batch_tokens, context)  # one prompt may be as long as that
    remembered = (
        tokens if any(protocol.reads for protocol in asked) else context if max(p.eval_shots) else 0
    )
    held = tokens * (4 * wide * width + (3 * wide + 8 * bool(adapter)) * inner)
    held += config.num_hidden_layers * keys * wide * remembered
    held += READ * config.vocab_size * (wide + 8) + (wide * found.largest if quantised else 0)
    return loaded(model, p if quantised else None, guess) + adapter + held


def _widths(config) -> tuple[int, int, int]:
    """Width of a layer, of its feed-forward part (else four times that), of keys, values."""
    width, heads = config.hidden_size, config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return (
        width,
        getattr(config, "intermediate_size", None) or 4 * width,
        2 * shared * (getattr(config, "head_dim", None) or width // heads),
    )


def batch_tokens(
    model, p, quantised: bool, adapter: float, there_gb: float, guess: bool = True
) -> int | None:
    """`eval_batch_tokens`, or the largest half, quarter ... of it that `there_gb` can score with.

    None where not even batches of one prompt fit.
    """
    tokens, least = p.eval_batch_tokens, longest(model, p, guess)
    while memory.rounded_up(scoring(model, p, quantised, adapter, tokens, guess)) > there_gb:
        if tokens <= least:
            return None
        tokens = max(tokens // 2, least)
    return tokens


def longest(model, p, guess: bool = True) -> int:
    """Tokens of the longest prompt that model and protocols allow."""
    allowed = max(protocol.max_context for protocol in _asked(p))
    config = configuration(model, guess).get_text_config()
    return min(allowed, getattr(config, "max_position_embeddings", allowed))


def _asked(p) -> list[Protocol]:
    return [protocols.named(name) for name in p.eval_protocols]


# ---- cards ---------------------------------------------------------------------------------


def cards() -> pd.DataFrame:
    """The GPUs of params/gpus.csv: gpu, memory_gb, tokens_per_second_70b (if published), source."""
    return pd.read_csv(ROOT / "params/gpus.csv")


def hours(model, tokens: float, speed):
    """Hours for so many tokens at the `speed` of a 70B, times 70B over this model's weights."""
    return tokens / (speed * 70e9 / shape(model).weights) / 3600


def gpus(model, p) -> pd.DataFrame:
    """The study on each GPU of params/gpus.csv: needed_gb (10^9), verdict, hours at most, dollars.

    Hours are those of supervised tuning with every sequence full, on one card, at the published
    speed of a 70B (`source`); empty where no speed is known.
    """
    table = cards()
    most = hours(
        model, p.sft_steps * p.sft_batch_size * p.data_max_length, table["tokens_per_second_70b"]
    )
    return table[["gpu", "memory_gb"]].assign(
        needed_gb=round(needed(model, p) / 1e9, 2),
        verdict=[advice(model, p, there * memory.GB) for there in table["memory_gb"]],
        hours_at_most=most.round(1),
        dollars=(most * (p.plan_dollars_per_hour or float("nan"))).round(),
        source=table["source"],
    )
