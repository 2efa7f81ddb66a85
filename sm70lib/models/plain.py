"""Scoring without any of our own attention: one sequence a pass, as the model's authors wrote it.

It is slow and right. Packed scoring is compared with it, and models that cannot be packed go this
way.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch

from sm70lib.models import packed
from sm70lib.models.request import Request


@torch.inference_mode()
def loglikelihoods(
    model, asked: Sequence[Request], common: Sequence[int] = ()
) -> list[list[float]]:
    """Scores every option of every request.

    Args:
        model: The model.
        asked: The requests.
        common: Token ids that every context begins with, and that the requests leave out.

    Returns:
        Summed log-likelihoods (nats): one list per request, with one number per option.
    """
    whole = packed.leave(model)
    return [_scored(whole, [*common, *request.context], request.options) for request in asked]


def _scored(model, context: list[int], options: list[list[int]]) -> list[float]:
    if all(len(option) == 1 for option in options):  # one pass tells all
        logs = _logprobs(model, context, 1)[0]
        return [logs[option[0]].item() for option in options]
    return [_of_one(model, context, option) for option in options]


def _of_one(model, context: list[int], option: list[int]) -> float:
    logs = _logprobs(model, [*context, *option[:-1]], len(option))
    tokens = torch.tensor(option, device=logs.device)[:, None]
    return logs.gather(1, tokens).double().sum().item()


def _logprobs(model, ids: list[int], last: int) -> torch.Tensor:
    """Log-probabilities behind the last tokens, `(last, vocabulary)` in float32."""
    keep = {"logits_to_keep": last} if _keeps_logits(model) else {}
    row = torch.tensor([ids], device=model.device)
    logits = model(input_ids=row, use_cache=False, **keep).logits[0, -last:]
    return logits.float().log_softmax(-1)


def _keeps_logits(model) -> bool:
    """Whether the model's forward pass can be told where logits are wanted."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters
