"""Loads causal language models, in full precision or NF4, with or without an adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from sm70lib.models.adapters import attach
from sm70lib.steps import weights
from sm70lib.study.params import StudyError
from sm70lib.study.used import trains_all

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
        tokenizer = AutoTokenizer.from_pretrained(existing(name), trust_remote_code=False)
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
    dtype: torch.dtype | None = None,
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
        dtype: The type of weights that are not quantised; by default the one that `p` computes in,
            or the checkpoint's own without `p`.

    Raises:
        StudyError: If the folder does not exist, has its weights in a pickle or lacks some, or the
            adapter does not fit the model.
    """
    ours = quantisation(p)
    # Even None would replace the quantisation that a checkpoint was stored with.
    how = {} if ours is None else {"quantization_config": ours}
    model: PreTrainedModel | PeftModel
    _refuse_pickles(existing(name))
    model, info = AutoModelForCausalLM.from_pretrained(
        existing(name),
        dtype=dtype or _dtype(p),
        use_safetensors=True,
        trust_remote_code=False,
        device_map=None if sharded() else {"": where or device()},
        output_loading_info=True,
        **how,
    )
    _require_all(info["missing_keys"], name)
    shut_cpu_inference_kernel(model)
    if adapter is not None:
        model = attach(model, adapter, trainable)
    model.config.use_cache = False
    return model.eval()


def shut_cpu_inference_kernel(model: torch.nn.Module) -> int:
    """Keeps bitsandbytes 0.50 from repacking NF4 weights for a CPU kernel without a gradient.

    After one evaluation pass that kernel also serves training. Every LoRA matrix below the last
    layer then gets a wrong gradient, with only a warning (cosine to the right one: -0.35).

    Returns:
        The number of layers that were set.
    """
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def _refuse_pickles(place: str) -> None:
    """Raises StudyError if the weights in a folder are a pickle alone, which can run code."""
    there = [path.name for path in Path(place).glob("*")] if Path(place).is_dir() else []
    pickles = [name for name in there if name.endswith((".bin", ".pt", ".pth"))]
    if pickles and not any(name.endswith(".safetensors") for name in there):
        raise StudyError(
            f"{place} has its weights in {min(pickles)}, and only safetensors are read: load it "
            "once in transformers, where you trust it, and save it with save_pretrained"
        )


def _require_all(missing: Collection[str], name: str | Path) -> None:
    """Raises StudyError if weights are missing, for which transformers would draw random ones."""
    if missing:
        raise StudyError(
            f"{name} lacks {len(missing)} of the model's weights, such as {min(missing)}: copy or "
            "download it again, or give the causal language model itself"
        )


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


def existing(name: str | Path) -> str:
    """The path of a model's folder, or its hub name (see `weights.place`).

    Args:
        name: Folder or hub name; a relative folder starts at the repository.

    Raises:
        StudyError: If it can only be a folder, and there is none. The hub would be asked for 46
            seconds first.
    """
    place = weights.place(name)
    local = Path(name).is_absolute() or str(name).startswith((".", "~", "outputs"))
    if not Path(place).is_dir() and (local or str(name).count("/") > 1):
        raise StudyError(
            f"no model in {name}: run 00_base first, or give base_model a folder or a hub name"
        )
    return place


def located(folder: Path) -> str:
    """The base of the study in `folder`: a hub name or a folder, as 00_base recorded it.

    Raises:
        StudyError: If 00_base has not run, or other weights lie under the same name than then.
    """
    if not (folder / "base/base.json").is_file():
        raise StudyError(f"{folder}/base/base.json is missing: run 00_base of {folder.name} first")
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
    return weights.placed(name)


def public_name(folder: Path) -> str:
    """What to call the base of the study in `folder` elsewhere: without a path of this machine."""
    name = json.loads((folder / "base/base.json").read_text())["model"]
    if name == "base/model":
        return f"outputs/{folder.name}/{name}"
    return Path(name).name if Path(name).is_absolute() or name.startswith("~") else name


def _origin(made_from: dict) -> str:
    return f"from {made_from.get('file', 'outputs/models')}" if made_from else "from the hub"


class Pair:
    """A base and what was trained on it, of which one answers at a time.

    The base is never in memory twice. An adapter is switched off where the base answers. Of two
    whole models only one is held, and a change of side loads the other.
    """

    def __init__(self, base: str, p, trained: Path):
        """Remembers what to load.

        Args:
            base: Folder or hub name of the base.
            p: The study's parameters.
            trained: Folder of the adapter or of the model.

        Raises:
            StudyError: That folder is not there.
        """
        if not trained.is_dir():
            raise StudyError(f"{trained} is missing: run 03_qlora_finetune of this study first")
        self.base, self.p, self.trained = base, p, trained
        self.held: tuple[bool, Any] | None = None  # whether it is the trained one, and the model

    @contextmanager
    def side(self, tuned: bool) -> Iterator[Any]:
        """Yields the trained model, or the base."""
        if trains_all(self.p):
            yield self._whole(tuned)
            return
        if self.held is None:
            self.held = True, load(self.base, self.p, self.trained)
        model = self.held[1]
        with nullcontext() if tuned else model.disable_adapter():
            yield model

    def _whole(self, tuned: bool) -> Any:
        if self.held is None or self.held[0] != tuned:
            self.held = None  # the other one leaves the memory first
            self.held = tuned, load(self.trained) if tuned else load(self.base, self.p)
        return self.held[1]
