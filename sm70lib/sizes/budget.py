"""The memory that a training stage needs, planned before anything is loaded."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd

from sm70lib.parameters import launchers
from sm70lib.parameters.stages import STAGES
from sm70lib.sizes.activations import activations, compute_width, full_width, lora_width
from sm70lib.sizes.shapes import Shape, adapted, configuration, shape
from sm70lib.study import memory
from sm70lib.study.used import trains_all

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
OF_TORCH = ("adamw_torch", "rmsprop")  # their state has the type of the weights
# What a study can change to need less memory. The first changes cost nothing, the next ones time,
# then precision, then capacity.
SAVES = {
    "train_micro_batch_size": 1,
    "train_gradient_checkpointing": True,
    "optimizer": "paged_adamw_8bit",
    "full_dtype": "bf16",
    "lora_dtype": "bf16",
    "lora_r": 8,
    "data_max_length": 512,
}
SEVERAL = "several GPUs by FSDP (train_launcher, params/accelerate/{})"


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
    rows = _for_all(model, p, kind) if trains_all(p) else _for_lora(model, p, kind, continued)
    rows += [(part, 0, size) for part, size in activations(configuration(model), p, kind).items()]
    frame = pd.DataFrame(rows, columns=["part", "parameters", "planned_mb"])
    return frame.assign(planned_mb=frame["planned_mb"] / MB)


def _for_all(model, p, kind: str) -> list[tuple[str, int, float]]:
    """Parts of a stage that trains all weights, on each of the processes that share them by FSDP.

    Those weights have a copy in the type that the study computes in, if that is another. A process
    that has only pieces of the weights gathers two layers at a time, besides embeddings and head.
    """
    config, found = configuration(model).get_text_config(), shape(model)
    every, own, wide = found.weights, full_width(p), compute_width(p)
    pieces = shared_by(p)
    outer = every - found.quantisable
    layer = found.quantisable / config.num_hidden_layers
    whole = every if pieces == 1 else min(every, outer + 2 * layer)
    rows: list[tuple[str, int, float]] = [("other weights", every, whole * wide)]
    if own != wide or pieces > 1:
        rows.append(("weights that are trained", every, every * own / pieces))
    rows += [
        ("gradients", every, every * own / pieces),
        ("optimiser state", every, every * state_bytes(p, kind) / pieces),
    ]
    if STAGES[kind].reference:
        rows.append(("reference model", every, every * own / pieces))
    return rows


def shared_by(p) -> int:
    """The processes that share the weights of a model by FSDP; 1 if each has all of them."""
    fsdp = launchers.fsdp_version(p.train_launcher)
    return launchers.processes(p.train_launcher) if fsdp else 1


def state_bytes(p, kind: str) -> int:
    """Bytes of the optimiser's state for each weight, where all weights are trained."""
    optimizer = getattr(p, f"{kind}_optimizer")
    in_32_bits = ADAM_BYTES[optimizer]
    return in_32_bits * full_width(p) // 4 if optimizer in OF_TORCH else in_32_bits


def _for_lora(model, p, kind: str, continued: bool) -> list[tuple[str, int, float]]:
    """Parts of a stage that trains an adapter."""
    found = shape(model)
    width = lora_width(p)
    quantised = found.quantisable if p.quant_type != "none" else 0
    others = found.weights - quantised
    lora = adapter_weights(found, p)
    rows: list[tuple[str, int, float]] = [
        ("NF4 weights", quantised, quantised / 2),
        ("quantisation constants", 0, constants(found, p)),
        ("other weights", others, others * compute_width(p)),
        ("LoRA weights", lora, lora * width),
        ("LoRA gradients", lora, lora * width),
        ("optimiser state", lora, lora * ADAM_BYTES[getattr(p, f"{kind}_optimizer")]),
    ]
    if STAGES[kind].reference and continued:
        rows.append(("reference adapter", lora, lora * width))
    return rows


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


def needed(model, p, kind: str = "sft", continued: bool = False) -> float:
    """Bytes that a stage needs, by `plan`, whose arguments these are."""
    return plan(model, p, kind, continued)["planned_mb"].sum() * MB


def verdict(model, p, kind: str = "sft") -> str:
    """Says in one line what is needed, what there is (GB, 10^9 bytes) and what to change."""
    there = memory.at_hand()
    return (
        f"{needed(model, p, kind) / 1e9:,.2f} GB of {there.gb:,.3g} GB in {there.where}: "
        f"{advice(model, p, there.gb * memory.GB, kind)}"
    )


def advice(model, p, there: float, kind: str = "sft", continued: bool = False) -> str:
    """Says that a stage fits into `there` bytes, or the fewest changes with which it does.

    Args:
        model, p, kind, continued: as in `plan`.
        there: memory of the GPU, or of the machine (bytes).
    """
    if needed(model, p, kind, continued) < there:
        return "fits"
    return f"does not fit; {changes_to_fit(model, p, there, kind, continued)}"


def changes_to_fit(model, p, there: float, kind: str = "sft", continued: bool = False) -> str:
    """The fewest changes with which a stage fits into `there` bytes, in the order of SAVES.

    Args:
        model, p, kind, continued: as in `plan`.
        there: memory of the GPU, or of the machine (bytes).

    Returns:
        At least one change, in words. If all of them are too few, it is SEVERAL.
    """
    values = p.model_dump()
    changes: dict[str, object] = {}
    before = needed(model, p, kind, continued)
    for parameter, value in SAVES.items():
        name = f"{kind}_{parameter}" if parameter == "optimizer" else parameter
        if name not in values or _saves_already(values[name], value):
            continue
        changed = SimpleNamespace(**values | changes | {name: value})
        after = needed(model, changed, kind, continued)
        if after < before:
            changes[name] = value
            before = after
            if after < there:
                return "change to " + ", ".join(f"{n} {v}" for n, v in changes.items())
    return SEVERAL.format("fsdp2-full.yml" if trains_all(p) else "fsdp-qlora.yml")


def _saves_already(now, saving) -> bool:
    """Whether a value is the saving one, or a number below it."""
    is_number = isinstance(saving, int) and not isinstance(saving, bool)
    return now == saving or (is_number and now < saving)
