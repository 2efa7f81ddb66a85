"""What a study needs before anything is loaded, part by part, and the same measured on the loaded model."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import bitsandbytes as bnb
import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from sm70lib.model import load
from sm70lib.params import ROOT

MB = 2**20
BLOCK = 64  # weights that share one constant in bitsandbytes
NESTED_BLOCK = 256  # constants that share one constant of the second level
ADAM_BYTES = {"adamw_torch": 8, "paged_adamw_32bit": 8, "paged_adamw_8bit": 2, "adamw_bnb_8bit": 2,
              "rmsprop": 4}
TILE = (4096, 32768)  # tokens and vocabulary entries whose logits TRL 1.16 holds at once (its chunked_logprob.py)
# Shapes that are planned without a download: Llama 2 (arXiv 2307.09288) and Llama 3 (arXiv 2407.21783, table 3), as in
# their config.json: width, feed-forward width, layers, heads, key-value heads, vocabulary.
SHAPES = {"meta-llama/Llama-2-7b-hf": (4096, 11008, 32, 32, 32, 32000),
          "meta-llama/Llama-2-70b-hf": (8192, 28672, 80, 64, 8, 32000),
          "meta-llama/Meta-Llama-3-8B-Instruct": (4096, 14336, 32, 32, 8, 128256),
          "meta-llama/Meta-Llama-3-70B-Instruct": (8192, 28672, 80, 64, 8, 128256)}
# What a study can change to need less, in the order of what it costs: nothing, time, precision, capacity.
SAVES = {"train_micro_batch_size": 1, "train_gradient_checkpointing": True, "sft_optimizer": "paged_adamw_8bit",
         "lora_dtype": "bf16", "lora_r": 8, "data_max_length": 512}


def plan(name: str | Path, p) -> pd.DataFrame:
    """Planned bytes of every part in MB (2^20): columns part, parameters, planned_mb.

    The model is built without storage, so a 70B plan costs nothing. NF4 takes half a byte a weight; the
    constants follow QLoRA (arXiv 2305.14314, section 3): one byte for 64 weights, four more for 256 of those
    bytes; without double quantisation four bytes for 64 weights. DoRA adds a magnitude for each output. What the
    driver and the allocator take comes on top.
    """
    model = _empty(str(name))
    linear = _linear_layers(model)
    quantised = sum(layer.weight.numel() for layer in linear) if p.quant_type != "none" else 0
    others = sum(weight.numel() for weight in model.parameters()) - quantised
    lora = sum(p.lora_r * layer.in_features + (p.lora_r + p.lora_dora) * layer.out_features for layer in linear)
    width = 4 if p.lora_dtype == "fp32" else 2
    rows = [("NF4 weights", quantised, quantised / 2), ("quantisation constants", 0, constants(linear, p)),
            ("other weights", others, others * _wide(p)), ("LoRA weights", lora, lora * width),
            ("LoRA gradients", lora, lora * width), ("optimiser state", lora, lora * ADAM_BYTES[p.sft_optimizer]),
            *((part, 0, size) for part, size in activations(model.config, p).items())]
    frame = pd.DataFrame(rows, columns=["part", "parameters", "planned_mb"])
    return frame.assign(planned_mb=frame["planned_mb"] / MB)


def _wide(p) -> int:
    return torch.finfo(getattr(torch, p.quant_compute_dtype)).bits // 8


def activations(config, p) -> dict[str, float]:
    """Bytes that a pass of a Llama with LoRA on all linear layers keeps, for its longest possible batch.

    A layer keeps, for each token: the inputs of both norms (32 bits), queries, keys, values, what attention
    gave, three feed-forward products, and what goes into LoRA's matrices: shared, or a copy for each layer
    where types differ or dropout (with its mask) comes between. Attention itself is never stored. With
    checkpointing only a layer's input is kept, and one layer at a time is computed again. `working space`:
    the largest matrix out of NF4 and the gradients of its products. Equals what autograd keeps
    (tests/test_plan.py).
    """
    tokens, wide = p.train_micro_batch_size * p.data_max_length, _wide(p)
    width, inner = config.hidden_size, config.intermediate_size
    keys = 2 * config.num_key_value_heads * width // config.num_attention_heads
    apart = p.lora_dropout > 0 or wide != (4 if p.lora_dtype == "fp32" else 2)
    copied = 6 * width + inner
    layer = (8 * width + wide * (2 * width + keys + 3 * inner + 7 * p.lora_r) + 4 * (config.num_attention_heads + 2)
             + wide * (copied if apart else 2 * width + inner) + copied * (p.lora_dropout > 0))
    if p.train_gradient_checkpointing:
        kept = {"activations, a layer's input each": tokens * wide * width * config.num_hidden_layers,
                "activations, one layer again": tokens * layer}
    else:
        kept = {"activations": tokens * layer * config.num_hidden_layers}
    logits = min(tokens, TILE[0]) * min(config.vocab_size, TILE[1]) * (wide + 4)
    return kept | {"logits": logits, "working space": wide * inner * (width + 3 * tokens)}


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


def verdict(name: str | Path, p) -> str:
    """One sentence: what the parts add up to, what there is (GB, 10^9 bytes), and which parameters to change."""
    there, where = _available_bytes(), torch.cuda.get_device_name() if torch.cuda.is_available() else "this machine"
    return f"{_needed(name, p) / 1e9:,.2f} GB of {there / 1e9:,.0f} GB in {where}: {advice(name, p, there)}"


def _needed(name: str | Path, p) -> float:
    return plan(name, p)["planned_mb"].sum() * MB


def advice(name: str | Path, p, there: float) -> str:
    """`fits`, or the fewest changes (in the order of SAVES) with which the study fits into `there` bytes."""
    values, changed = p.model_dump(), {}
    for parameter, value in [("study", values["study"]), *SAVES.items()]:
        changed |= {} if values[parameter] == value else {parameter: value}
        if _needed(name, SimpleNamespace(**values | changed)) < there:
            words = ", ".join(f"{n} {v}" for n, v in changed.items())
            return f"does not fit; change to {words}" if words else "fits"
    return "does not fit; several GPUs by FSDP (train_launcher, params/accelerate/fsdp-qlora.yml)"


def gpus(name: str | Path, p) -> pd.DataFrame:
    """The study on each GPU of params/gpus.csv: needed_gb (10^9 bytes), verdict, hours at most, dollars.

    Hours are those of supervised tuning with every sequence full, on one card, at the published speed of a
    70B (`source`) times 70B over this model's weights; empty where no speed is known.
    """
    weights = sum(weight.numel() for weight in _empty(str(name)).parameters())
    tokens = p.sft_steps * p.sft_batch_size * p.data_max_length
    table = pd.read_csv(ROOT / "params/gpus.csv")
    hours = tokens / (table["tokens_per_second_70b"] * 70e9 / weights) / 3600
    return table[["gpu", "memory_gb"]].assign(
        needed_gb=round(_needed(name, p) / 1e9, 2),
        verdict=[advice(name, p, memory * 1e9) for memory in table["memory_gb"]], hours_at_most=hours.round(1),
        dollars=(hours * (p.plan_dollars_per_hour or float("nan"))).round(), source=table["source"])


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
    if 4 * sum(weight.numel() for weight in _empty(str(base)).parameters()) > _available_bytes():
        return pd.Series({"kl_nats": None, "agreement_pct": None})
    full = load(base)
    torch.manual_seed(0)
    start = torch.full((rows, 1), full.config.bos_token_id, device=full.device)
    ids = full.generate(start, do_sample=True, max_new_tokens=tokens, use_cache=True)
    was, now = (model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1) for model in (full, quantised))
    return pd.Series({"kl_nats": (was.exp() * (was - now)).sum(-1).mean().item(),
                      "agreement_pct": 100 * (was.argmax(-1) == now.argmax(-1)).float().mean().item()}).round(4)


@lru_cache
def _empty(name: str) -> torch.nn.Module:
    """The model's modules without storage; of a known shape nothing is read."""
    if name in SHAPES:
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        config = LlamaConfig(**dict(zip((*names, "vocab_size"), SHAPES[name])))
    else:
        config = AutoConfig.from_pretrained(name)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
