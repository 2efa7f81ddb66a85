"""Measured: the memory of a loaded model, and what quantisation changes in its answers."""

from __future__ import annotations

from typing import Any, cast

import bitsandbytes as bnb
import pandas as pd
import torch

from sm70lib.models import loading
from sm70lib.sizes import budget, budget_scoring
from sm70lib.study import memory

PARTS = ("NF4 weights", "quantisation constants", "other weights")


def parts(loaded: torch.nn.Module | None) -> pd.DataFrame:
    """The memory that the parts of a loaded model take.

    Args:
        loaded: The model, or None.

    Returns:
        Columns part and measured_mb (MB of 2^20 bytes; missing without a model).
    """
    sizes = [float("nan")] * len(PARTS)
    if loaded is not None:
        quantised_layers = [
            module for module in loaded.modules() if isinstance(module, bnb.nn.Linear4bit)
        ]
        packed = sum(_bytes(layer.weight) for layer in quantised_layers)
        constants = sum(_state_bytes(layer) for layer in quantised_layers)
        every = sum(_bytes(weight) for weight in loaded.parameters())
        sizes = [packed / budget.MB, constants / budget.MB, (every - packed) / budget.MB]
    return pd.DataFrame({"part": PARTS, "measured_mb": sizes})


def _state_bytes(layer: bnb.nn.Linear4bit) -> int:
    weight = cast(bnb.nn.Params4bit, layer.weight)  # torch declares it as a plain tensor
    state = weight.quant_state
    tensors = [state.absmax]
    if state.nested:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    return sum(_bytes(tensor) for tensor in tensors)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def layers(loaded: torch.nn.Module | None) -> pd.DataFrame:
    """The kinds of layers of a model.

    Args:
        loaded: The model, or None.

    Returns:
        One row per kind: layer, class, stored_as (type of its weight) and count. Empty without a
        model.
    """
    rows = []
    for name, module in loaded.named_modules() if loaded is not None else ():
        weight = getattr(module, "weight", None)
        if weight is not None:
            stored_as = str(weight.dtype).removeprefix("torch.")
            rows.append((name.split(".")[-1], type(module).__name__, stored_as))
    frame = pd.DataFrame(rows, columns=["layer", "class", "stored_as"])
    return (
        frame.groupby(["layer", "class", "stored_as"], sort=False)
        .size()
        .rename("count")
        .reset_index()
    )


def quantised(base: str, p) -> torch.nn.Module | None:
    """The base as the study quantises it; prints a line and returns None if it does not fit."""
    if not _fits(budget_scoring.load_peak(base, p, guess=False), "the quantised base"):
        return None
    return loading.load(base, p)


@torch.inference_mode()
def sample_with_logprobs(
    base: str, tokens: int = 128, rows: int = 8
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Lets the full base write text (seed 0), and computes the log-probabilities of that text.

    The model is freed afterwards, so that the quantised one is never in memory beside it.

    Args:
        base: Folder or hub name of the base.
        tokens: Tokens of each row, behind BOS.
        rows: Number of rows.

    Returns:
        Token ids `(rows, tokens + 1)` and log-probabilities `(rows, tokens + 1, vocabulary)`, on
        the CPU. If the model does not fit here, prints a line and returns None.
    """
    if not _fits(budget_scoring.compared(base, False, rows, tokens + 1), "the full base"):
        return None
    full: Any = loading.load(base)  # generate is typed as a tensor in PEFT's wrapper
    torch.manual_seed(0)
    start = torch.full((rows, 1), _first_token(full.config), device=full.device)
    whole = torch.ones_like(start)  # else transformers warns where BOS is the pad token too
    drawn = {"do_sample": True, "max_new_tokens": tokens, "use_cache": True}
    ids = full.generate(start, attention_mask=whole, **drawn)
    return ids.cpu(), _logprobs(full, ids).cpu()


def _first_token(config) -> int:
    """The id of BOS, or of an end of text where a model has no BOS."""
    about = config.get_text_config()
    if about.bos_token_id is not None:
        return about.bos_token_id
    ends = about.eos_token_id
    return ends[0] if isinstance(ends, list) else ends


@torch.inference_mode()
def quantisation_error(before: tuple | None, loaded: torch.nn.Module | None) -> pd.Series:
    """How far quantisation moves the next-token distribution, on the text of `said`.

    Args:
        before: Token ids and log-probabilities of the full base (`sample_with_logprobs`), or None.
        loaded: The quantised base, or None.

    Returns:
        kl_nats, the mean Kullback-Leibler divergence of the quantised from the full model (nats
        per token), and agreement_pct, the percentage of positions at which both find the same
        token likeliest. Both are empty if one of the models is None.
    """
    if before is None or loaded is None:
        return pd.Series({"kl_nats": None, "agreement_pct": None})
    ids, full = before
    four_bit = _logprobs(loaded, ids.to(loaded.device)).cpu()
    divergence = (full.exp() * (full - four_bit)).sum(-1)
    agreement = (full.argmax(-1) == four_bit.argmax(-1)).float()
    return pd.Series(
        {
            "kl_nats": divergence.mean().item(),
            "agreement_pct": 100 * agreement.mean().item(),
        }
    ).round(4)


def _logprobs(loaded: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return loaded(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)


def _fits(needed: float, what: str) -> bool:
    """Whether so many bytes fit on this machine; prints a line if they do not."""
    gb = memory.rounded_up(needed)
    there = memory.at_hand()
    if gb > there.gb:
        print(
            f"{what} is not loaded: it needs {memory.words(gb)}, "
            f"and there are {memory.words(there.gb)} in {there.where}"
        )
    return gb <= there.gb
