"""Loads causal language models, in full precision or NF4, with or without an adapter."""

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

from sm70lib.models.adapters import attach
from sm70lib.models.lora import shut_cpu_inference_kernel
from sm70lib.steps import weights
from sm70lib.study.params import StudyError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """The GPU of this process if there is one, else the CPU."""
    here = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return torch.device(here if torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str | Path):
    """The fast tokenizer of a model; its EOS is the pad token if it has no other.

    Raises:
        StudyError: If the model is neither on this machine nor on a hub that answers.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(_existing(name))
    except OSError as error:
        first = str(error).strip().splitlines()[0]
        raise StudyError(f"{name} cannot be read ({first}); {weights.remedy(name)}") from None
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load(
    name: str | Path,
    p=None,
    adapter: str | Path | None = None,
    trainable: bool = False,
    where: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """Loads a model in evaluation mode.

    Only safetensors are read, and no remote code runs.

    Args:
        name: Folder or hub name of the model.
        p: The study's parameters, by which the linear layers are quantised (`quant_type`,
            `quant_double`, `quant_compute_dtype`). None keeps the checkpoint's precision.
        adapter: Folder of a LoRA adapter, or None.
        trainable: Whether the adapter can be trained; else it is frozen.
        where: The device; by default that of this process.

    Raises:
        StudyError: If the folder does not exist, or the adapter does not fit the model.
    """
    model: PreTrainedModel | PeftModel = AutoModelForCausalLM.from_pretrained(
        _existing(name),
        quantization_config=quantisation(p),
        dtype=_dtype(p),
        use_safetensors=True,
        trust_remote_code=False,
        device_map=None if sharded() else {"": where or device()},
    )
    shut_cpu_inference_kernel(model)
    if adapter is not None:
        model = attach(model, adapter, trainable)
    model.config.use_cache = False
    return model.eval()


def quantisation(p) -> BitsAndBytesConfig | None:
    """The study's quantisation (QLoRA, arXiv 2305.14314, section 3); None for full precision."""
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
    """Whether the launcher asked for FSDP, which shards weights itself and needs one type."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")


def _dtype(p) -> torch.dtype | str:
    return "auto" if p is None else getattr(torch, p.quant_compute_dtype)


def _existing(name: str | Path) -> str:
    """Where the model is read from (see `weights.place`).

    Raises StudyError for a folder that does not exist. The hub would be asked for 46 seconds first.
    """
    folder = Path(weights.place(name))
    if not folder.is_dir() and (folder.is_absolute() or str(name).startswith((".", "outputs"))):
        raise StudyError(
            f"no model in {name}: run 00_base first, or give base_model a folder or a hub name"
        )
    return str(folder)


def require(name: str, key: str) -> None:
    """Checks that a model can be read, from its folder or from the hub.

    Args:
        name: Folder or hub name of the model.
        key: The parameter that names it, for the error's sentence.

    Raises:
        StudyError: If the model cannot be read, for example because it is gated, or its folder has
            no weights as safetensors.
    """
    try:
        AutoConfig.from_pretrained(_existing(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise StudyError(
            f"{key}: {name} cannot be read ({first}); where it is gated, ask its owners for access "
            f"and log in (hf auth login), or take it out; {weights.remedy(name)}"
        ) from None
    _require_safetensors(name, key)


def _require_safetensors(name: str, key: str) -> None:
    """Raises StudyError for a folder whose weights are in another format, such as a pickle."""
    folder = Path(weights.place(name))
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise StudyError(
            f"{key}: {name} has no *.safetensors, and weights are read in no other format; load it "
            "once in transformers and save it with save_pretrained"
        )


def located(folder: Path) -> str:
    """The base of the study in `folder`: a hub name or a folder, as 00_base recorded it.

    Raises:
        StudyError: If other weights lie under the same name than when 00_base ran.
    """
    about = json.loads((folder / "base/base.json").read_text())
    name = about["model"]
    if name == "base/model":
        return str(folder / name)
    then, now = about.get("made_from", {}), weights.made_from(name)
    if then != now:
        raise StudyError(
            f"00_base of study {folder.name} found {name} {_origin(then)}, and now it comes "
            f"{_origin(now)}: other weights; {weights.remedy(name)}, or make 00 again (--fresh 00)"
        )
    return name


def _origin(made_from: dict) -> str:
    return f"from {made_from.get('file', 'outputs/models')}" if made_from else "from the hub"
