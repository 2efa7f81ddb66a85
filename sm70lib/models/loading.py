"""Loads a causal language model (full precision or NF4, with or without adapter), and scores answers with it.

Prompts and all their options go through the model as one packed row without padding: each prompt, then one branch
per option that sees the prompt and itself only. What several prompts begin with (five fixed shots) is computed
once, and seen by all. Same numbers as scoring every option alone (to 1e-5), for a fraction of the tokens; logits
are computed only where they predict an option's token.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from sm70lib.models.lora import shut_cpu_inference_kernel
from sm70lib.study.params import StudyError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    here = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return torch.device(here if torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str | Path):
    """The fast tokenizer of a model, with a pad token (its EOS where it has none)."""
    tokenizer = AutoTokenizer.from_pretrained(_found(name))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load(
    name: str | Path,
    p=None,
    adapter: str | Path | None = None,
    trainable: bool = False,
    where: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """A model in evaluation mode on this process's device or `where`; its adapter frozen unless `trainable`.

    With `p` its linear layers are quantised as the study says (`quant_type`, `quant_double`,
    `quant_compute_dtype`); without, they stay in the checkpoint's precision. Only safetensors are read and
    no remote code runs. Raises StudyError where the folder has no model.
    """
    model = AutoModelForCausalLM.from_pretrained(
        _found(name),
        quantization_config=quantisation(p),
        dtype=_dtype(p),
        attn_implementation="sdpa",
        use_safetensors=True,
        trust_remote_code=False,
        device_map=None if sharded() else {"": where or device()},
    )
    shut_cpu_inference_kernel(model)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    model.config.use_cache = False
    return model.eval()


def quantisation(p) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314, section 3), or None for full precision."""
    if p is None or p.quant_type == "none":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=p.quant_type,
        bnb_4bit_use_double_quant=p.quant_double,
        bnb_4bit_compute_dtype=getattr(torch, p.quant_compute_dtype),
        bnb_4bit_quant_storage=_dtype(p) if sharded() else torch.uint8,
    )


def sharded() -> bool:
    """Whether the launcher asked for FSDP, which cuts weights up itself and wants them all in one type."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def _dtype(p) -> torch.dtype | str:
    return "auto" if p is None else getattr(torch, p.quant_compute_dtype)


def _found(name: str | Path) -> str:
    """The name itself; refuses a folder that is not there before the hub is asked for 46 seconds."""
    folder = Path(name)
    if not folder.is_dir() and (folder.is_absolute() or str(name).startswith((".", "outputs"))):
        raise StudyError(
            f"no model in {name}: run 00_base first, or give base_model a folder or a hub name"
        )
    return str(name)


def require(name: str, key: str) -> None:
    """Raises StudyError unless a model's folder or its files on the hub (gated ones too) can be read."""
    try:
        AutoConfig.from_pretrained(_found(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise StudyError(
            f"{key}: {name} cannot be read ({first}); where it is gated, ask its owners for access and "
            "log in (hf auth login), or take it out"
        ) from None


def located(folder: Path) -> str:
    """The base of the study in `folder`: its hub name or its own folder, as 00_base noted."""
    name = json.loads((folder / "base/base.json").read_text())["model"]
    return str(folder / name) if name == "base/model" else name
