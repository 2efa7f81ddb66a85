"""Loads a causal language model from a folder or the hub: full precision or NF4, with or without adapter."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import bitsandbytes as bnb
import pandas as pd
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM, AutoTokenizer,
                          BitsAndBytesConfig, PreTrainedModel)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as transformers_logging

from sm70lib.params import StudyError

transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def load_tokenizer(name: str | Path):
    """The fast tokenizer of a model, with a pad token (its EOS where it has none)."""
    tokenizer = AutoTokenizer.from_pretrained(_found(name))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load(name: str | Path, p=None, adapter: str | Path | None = None, trainable: bool = False,
         where: torch.device | None = None) -> PreTrainedModel | PeftModel:
    """A model in evaluation mode on this process's device or `where`; its adapter frozen unless `trainable`.

    With `p` its linear layers are quantised as the study says (`quant_type`, `quant_double`,
    `quant_compute_dtype`); without, they stay in the checkpoint's precision. Only safetensors are read and
    no remote code runs. Raises StudyError where the folder has no model.
    """
    model = AutoModelForCausalLM.from_pretrained(
        _found(name), quantization_config=quantisation(p), dtype=_dtype(p), attn_implementation="sdpa",
        use_safetensors=True, trust_remote_code=False, device_map=None if sharded() else {"": where or device()})
    shut_cpu_inference_kernel(model)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    model.config.use_cache = False
    return model.eval()


def quantisation(p) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314, section 3), or None for full precision."""
    if p is None or p.quant_type == "none":
        return None
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=p.quant_type,
                              bnb_4bit_use_double_quant=p.quant_double,
                              bnb_4bit_compute_dtype=getattr(torch, p.quant_compute_dtype),
                              bnb_4bit_quant_storage=_dtype(p) if sharded() else torch.uint8)


def sharded() -> bool:
    """Whether the launcher asked for FSDP, which cuts weights up itself and wants them all in one type."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def shut_cpu_inference_kernel(model: torch.nn.Module) -> int:
    """Keeps bitsandbytes 0.50 from repacking NF4 weights for a CPU kernel that has no gradient.

    After one evaluation pass that kernel also serves training, and every LoRA matrix below the last layer
    then gets a wrong gradient with nothing but a warning (cosine to the right one: -0.35). Returns the
    number of layers that were set.
    """
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def merge(base: str, p, adapter: Path, into: str, folder: Path) -> None:
    """Writes base and adapter as one plain model to `folder`, with its tokenizer; on the CPU, in memory once.

    `into` original: the base as published, which is what SM70's own checkpoints look like; dequantised: the
    NF4 base written out, which is what the adapter was trained on. Merging into four bits would quantise the
    sum once more, and move it.
    """
    plain = load(base, p if into == "dequantised" else None, where=torch.device("cpu"))
    if into == "dequantised" and p.quant_type != "none":
        plain = plain.dequantize()
    PeftModel.from_pretrained(plain, adapter).merge_and_unload().save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)


def by_sequence(module, query, key, value, attention_mask, cu_seq_lens_q=None, **how):
    """Attention of packed rows, one row after another, so that none costs for what it may not see.

    With one mask for all, a sequence pays for its whole square. `cu_seq_lens_q` (TRL's): where rows begin, and
    the end.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    rows = zip(*(states.split(cu_seq_lens_q.diff().tolist(), dim=2) for states in (query, key, value)))
    return torch.cat([sdpa_attention_forward(module, *row, None, **how)[0] for row in rows], dim=1), None


AttentionInterface.register("by_sequence", by_sequence)
AttentionMaskInterface.register("by_sequence", sdpa_mask)


@torch.inference_mode()
def parity(tuned: torch.nn.Module, merged: torch.nn.Module, rows) -> dict[str, float]:
    """Two models on the same rows (input_ids, labels): items, target tokens, flips, largest logit difference.

    flips: target positions at which they find different tokens likeliest.
    """
    tokens, flips, largest = 0, 0, 0.0
    for row in rows:
        asked, ids = torch.tensor(row["labels"][1:]) >= 0, torch.tensor([row["input_ids"]])
        one, other = (model(input_ids=ids.to(model.device), use_cache=False).logits[0, :-1].float().cpu()[asked]
                      for model in (tuned, merged))
        tokens, flips = tokens + len(one), flips + (one.argmax(-1) != other.argmax(-1)).sum().item()
        largest = max(largest, (one - other).abs().max().item())
    return {"items": len(rows), "tokens": tokens, "flips": flips, "largest_logit_difference": largest}


def _dtype(p) -> torch.dtype | str:
    return "auto" if p is None else getattr(torch, p.quant_compute_dtype)


def _found(name: str | Path) -> str:
    """The name itself; refuses a folder that is not there before the hub is asked for 46 seconds."""
    folder = Path(name)
    if not folder.is_dir() and (folder.is_absolute() or str(name).startswith((".", "outputs"))):
        raise StudyError(f"no model in {name}: run 00_base first, or give base_model a folder or a hub name")
    return str(name)


def adapter_table(adapter: Path) -> pd.DataFrame:
    """The adapter by kind of layer: matrices, parameters, and the Frobenius norms of A and B (means over layers)."""
    rows = [(name.split(".")[-3], name.split(".")[-2][-1], weight.numel(), weight.float().norm().item())
            for name, weight in load_file(adapter / "adapter_model.safetensors").items() if name.endswith(".weight")]
    frame = pd.DataFrame(rows, columns=["layer", "matrix", "parameters", "norm"])
    norms = frame.pivot_table(index="layer", columns="matrix", values="norm", sort=False).add_prefix("norm_")
    return frame.groupby("layer", sort=False)["parameters"].agg(["size", "sum"]).set_axis(
        ["matrices", "parameters"], axis=1).join(norms.round(2))


@torch.inference_mode()
def answer(loaded, tokenizer, prompt: str, max_new_tokens: int) -> str:
    """What a model writes after BOS and `prompt`, greedily, up to its EOS or `max_new_tokens` tokens."""
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]])
    written = loaded.generate(ids.to(loaded.device), attention_mask=torch.ones_like(ids).to(loaded.device),
                              do_sample=False, max_new_tokens=max_new_tokens, use_cache=True)
    return tokenizer.decode(written[0, ids.shape[1]:], skip_special_tokens=True).strip()


def located(folder: Path) -> str:
    """The base of the study in `folder`: its hub name or its own folder, as 00_base noted."""
    name = json.loads((folder / "base/base.json").read_text())["model"]
    return str(folder / name) if name == "base/model" else name
