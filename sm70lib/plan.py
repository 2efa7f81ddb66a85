"""What a study needs before anything is loaded, part by part, and the same measured on the loaded model."""

from __future__ import annotations

import os
from pathlib import Path

import bitsandbytes as bnb
import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sm70lib.model import load

MB = 2**20
BLOCK = 64  # weights that share one constant in bitsandbytes
NESTED_BLOCK = 256  # constants that share one constant of the second level
ADAM_BYTES = {"adamw_torch": 8, "paged_adamw_32bit": 8, "paged_adamw_8bit": 2, "adamw_bnb_8bit": 2}


def plan(name: str | Path, p) -> pd.DataFrame:
    """Planned bytes of every part in MB (2^20): columns part, parameters, planned_mb.

    The model is built without storage, so a 70B plan costs nothing. NF4 takes half a byte a weight; the
    constants follow QLoRA (arXiv 2305.14314, section 3): one byte for 64 weights, four more for 256 of those
    bytes; without double quantisation four bytes for 64 weights. Activations are not planned.
    """
    model = _empty(name)
    linear = _linear_layers(model)
    quantised = sum(layer.weight.numel() for layer in linear) if p.quant_type != "none" else 0
    others = sum(weight.numel() for weight in model.parameters()) - quantised
    lora = sum(p.lora_r * (layer.in_features + layer.out_features) for layer in linear)
    width = 4 if p.lora_dtype == "fp32" else 2
    rows = [("NF4 weights", quantised, quantised / 2), ("quantisation constants", 0, constants(linear, p)),
            ("other weights", others, others * torch.finfo(getattr(torch, p.quant_compute_dtype)).bits / 8),
            ("LoRA weights", lora, lora * width), ("LoRA gradients", lora, lora * width),
            ("optimiser state", lora, lora * ADAM_BYTES[p.sft_optimizer])]
    frame = pd.DataFrame(rows, columns=["part", "parameters", "planned_mb"])
    return frame.assign(planned_mb=frame["planned_mb"] / MB)


def constants(linear: list[torch.nn.Linear], p) -> float:
    """Bytes of the quantisation constants of these layers."""
    if p.quant_type == "none":
        return 0.0
    blocks = [-(-layer.weight.numel() // BLOCK) for layer in linear]
    if not p.quant_double:
        return 4.0 * sum(blocks)
    codebook = 256 * 4 + 4  # the second level's own table and its offset, per layer
    return float(sum(count + 4 * -(-count // NESTED_BLOCK) + codebook for count in blocks))


def _linear_layers(model: torch.nn.Module) -> list[torch.nn.Linear]:
    """What bitsandbytes quantises and LoRA adapts: every linear layer but the output head."""
    head = model.get_output_embeddings()
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]


def measure(model: torch.nn.Module) -> pd.DataFrame:
    """Bytes that the parts of a loaded model really take, in MB (2^20): columns part, measured_mb."""
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    packed = sum(_bytes(layer.weight) for layer in layers)
    every = sum(_bytes(weight) for weight in model.parameters())
    rows = [("NF4 weights", packed), ("quantisation constants", sum(_state_bytes(layer) for layer in layers)),
            ("other weights", every - packed)]
    return pd.DataFrame(rows, columns=["part", "measured_mb"]).assign(
        measured_mb=lambda frame: frame["measured_mb"] / MB)


def _state_bytes(layer: bnb.nn.Linear4bit) -> int:
    state = layer.weight.quant_state
    tensors = [state.absmax]
    if state.nested:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    return sum(_bytes(tensor) for tensor in tensors)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def layers(model: torch.nn.Module) -> pd.DataFrame:
    """Every kind of layer once: class, dtype of its weight, how many, whether it was quantised."""
    rows = [(name.split(".")[-1], type(module).__name__, str(module.weight.dtype).removeprefix("torch."))
            for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
    frame = pd.DataFrame(rows, columns=["layer", "class", "stored_as"])
    return frame.groupby(["layer", "class", "stored_as"], sort=False).size().rename("count").reset_index()


def verdict(planned: pd.DataFrame) -> str:
    """One sentence: what the parts add up to, what there is (GB, 10^9 bytes), and which parameter to change."""
    needed, there = planned["planned_mb"].sum() * MB / 1e9, _available_bytes() / 1e9
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "this machine's memory"
    if needed < there:
        return f"{needed:,.2f} GB before activations, of {there:,.0f} GB in {where}: fits"
    return (f"{needed:,.2f} GB before activations, of {there:,.0f} GB in {where}: does not fit; lower lora_r, or set "
            "lora_dtype to bf16 and sft_optimizer to paged_adamw_8bit")


def _available_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@torch.inference_mode()
def quantisation_error(base: str, quantised: torch.nn.Module, tokens: int = 128, rows: int = 8) -> pd.Series:
    """How far quantisation moves the next-token distribution on text that the base itself samples (seed 0).

    kl_nats: mean Kullback-Leibler divergence of the quantised from the full model (nats per token);
    agreement_pct: positions at which both find the same token likeliest. Empty where the full model does not
    fit beside the quantised one.
    """
    if 4 * sum(weight.numel() for weight in _empty(base).parameters()) > _available_bytes():
        return pd.Series({"kl_nats": None, "agreement_pct": None})
    full = load(base)
    torch.manual_seed(0)
    start = torch.full((rows, 1), full.config.bos_token_id, device=full.device)
    ids = full.generate(start, do_sample=True, max_new_tokens=tokens, use_cache=True)
    was, now = (model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1) for model in (full, quantised))
    return pd.Series({"kl_nats": (was.exp() * (was - now)).sum(-1).mean().item(),
                      "agreement_pct": 100 * (was.argmax(-1) == now.argmax(-1)).float().mean().item()}).round(4)


def _empty(name: str | Path) -> torch.nn.Module:
    """The model's modules without storage."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name))
