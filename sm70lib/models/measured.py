"""What the parts of a loaded model really take, and what four bits change in what it says."""

from __future__ import annotations

import bitsandbytes as bnb
import pandas as pd
import torch

from sm70lib.models import budget, budget_scoring, loading
from sm70lib.study import memory

PARTS = ("NF4 weights", "quantisation constants", "other weights")


def parts(loaded: torch.nn.Module | None) -> pd.DataFrame:
    """Bytes of a loaded model in MB (2^20): columns part, measured_mb (missing without)."""
    found = [float("nan")] * len(PARTS)
    if loaded is not None:
        layers = [module for module in loaded.modules() if isinstance(module, bnb.nn.Linear4bit)]
        packed = sum(_bytes(layer.weight) for layer in layers)
        every = sum(_bytes(weight) for weight in loaded.parameters())
        found = [
            packed / budget.MB,
            sum(map(_state_bytes, layers)) / budget.MB,
            (every - packed) / budget.MB,
        ]
    return pd.DataFrame({"part": PARTS, "measured_mb": found})


def _state_bytes(layer: bnb.nn.Linear4bit) -> int:
    state = layer.weight.quant_state
    tensors = [state.absmax]
    if state.nested:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    return sum(_bytes(tensor) for tensor in tensors)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def layers(loaded: torch.nn.Module | None) -> pd.DataFrame:
    """Every kind of layer once: class, dtype of its weight, how many; empty without a model."""
    rows = [
        (
            name.split(".")[-1],
            type(module).__name__,
            str(module.weight.dtype).removeprefix("torch."),
        )
        for name, module in (loaded.named_modules() if loaded is not None else ())
        if getattr(module, "weight", None) is not None
    ]
    frame = pd.DataFrame(rows, columns=["layer", "class", "stored_as"])
    return (
        frame.groupby(["layer", "class", "stored_as"], sort=False)
        .size()
        .rename("count")
        .reset_index()
    )


def quantised(base: str, p) -> torch.nn.Module | None:
    """The base as the study quantises it; None, and a line says so, where it does not fit."""
    return (
        loading.load(base, p)
        if _fits(budget_scoring.load_peak(base, p, guess=False), "the quantised base")
        else None
    )


@torch.inference_mode()
def said(base: str, tokens: int = 128, rows: int = 8) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Text that the full base samples (seed 0; rows, tokens + 1), and its log-probabilities.

    The model is gone afterwards, so that the quantised one never stands beside it. None, and a
    line says so, where it does not fit here.
    """
    if not _fits(budget_scoring.compared(base, False, rows, tokens + 1), "the full base"):
        return None
    full = loading.load(base)
    torch.manual_seed(0)
    start = torch.full((rows, 1), full.config.bos_token_id, device=full.device)
    ids = full.generate(start, do_sample=True, max_new_tokens=tokens, use_cache=True)
    return ids.cpu(), _logprobs(full, ids).cpu()


@torch.inference_mode()
def quantisation_error(before: tuple | None, loaded: torch.nn.Module | None) -> pd.Series:
    """How far quantisation moves the next-token distribution on the text of `said`.

    kl_nats: mean Kullback-Leibler divergence of the quantised from the full model (nats per token);
    agreement_pct: positions at which both find the same token likeliest. Empty where one of them
    did not fit.
    """
    if before is None or loaded is None:
        return pd.Series({"kl_nats": None, "agreement_pct": None})
    ids, was = before
    now = _logprobs(loaded, ids.to(loaded.device)).cpu()
    return pd.Series(
        {
            "kl_nats": (was.exp() * (was - now)).sum(-1).mean().item(),
            "agreement_pct": 100 * (was.argmax(-1) == now.argmax(-1)).float().mean().item(),
        }
    ).round(4)


def _logprobs(loaded: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return loaded(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)


def _fits(needed: float, what: str) -> bool:
    gb, there = memory.rounded_up(needed), memory.at_hand()
    if gb > there.gb:
        print(
            f"{what} is not loaded: it needs {memory.words(gb)}, "
            f"and there are {memory.words(there.gb)} in "
            f"{there.where}"
        )
    return gb <= there.gb
