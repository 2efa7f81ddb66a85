"""Log-likelihoods of answer options under a causal language model, each shared prefix computed once.

A prompt and all its options go through the model as one packed row: the prompt, then one branch per option
that sees the prompt and itself only. Same numbers as scoring every option alone (to 1e-5), for a fraction
of the tokens; logits are computed only at the positions that predict an option's token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

import torch


@dataclass(frozen=True)
class Request:
    """Token ids of a prompt and of each option that could follow it (at least one token each)."""

    context: list[int]
    options: list[list[int]]

    @property
    def length(self) -> int:
        """Tokens that go through the model; an option's last token is only predicted, never read."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)


def batches(groups: list[tuple[Request, ...]], batch_tokens: int) -> list[list[int]]:
    """Indices of groups by falling length, each padded batch within `batch_tokens` (one group at least).

    A group (an item's requests) stays together. The grouping depends on the whole list alone, so that a
    resumed run pads every item as the first run did.
    """
    width = [max(request.length for request in group) for group in groups]
    found: list[list[int]] = []
    rows = 0
    for index in sorted(range(len(groups)), key=lambda index: (-width[index], index)):
        rows += len(groups[index])
        if not found or rows * width[found[-1][0]] > batch_tokens:
            found.append([])
            rows = len(groups[index])
        found[-1].append(index)
    return found


@torch.inference_mode()
def loglikelihoods(model, requests: list[Request], pad_id: int) -> list[list[float]]:
    """Summed log-likelihood (nats) of every option of every request, in one forward pass."""
    device = next(model.parameters()).device
    ids, positions, segments = (torch.stack(rows).to(device) for rows in zip(*_rows(requests, pad_id)))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = base.get_decoder()(input_ids=ids, position_ids=positions, attention_mask=_mask(segments),
                                use_cache=False).last_hidden_state
    rows, places, targets, owners = zip(*_targets(requests))
    logits = base.get_output_embeddings()(hidden[list(rows), list(places)]).float()
    picked = logits.log_softmax(-1).gather(1, torch.tensor(targets, device=device)[:, None])[:, 0].double()
    totals = torch.zeros(sum(len(request.options) for request in requests), dtype=torch.float64, device=device)
    totals.index_add_(0, torch.tensor(owners, device=device), picked)
    return [part.tolist() for part in totals.cpu().split([len(request.options) for request in requests])]


def _rows(requests: list[Request], pad_id: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Per request: ids, positions and segments (0 prompt, 1.. branches, -1 padding), each `(tokens,)`."""
    width = max(request.length for request in requests)
    for request in requests:
        ids, start = list(request.context), len(request.context)
        positions, segments = list(range(start)), [0] * start
        for number, option in enumerate(request.options, 1):
            ids += option[:-1]
            positions += range(start, start + len(option) - 1)
            segments += [number] * (len(option) - 1)
        padding = width - len(ids)
        yield (torch.tensor(ids + [pad_id] * padding), torch.tensor(positions + [0] * padding),
               torch.tensor(segments + [-1] * padding))


def _mask(segments: torch.Tensor) -> torch.Tensor:
    """Who sees whom, `(rows, 1, tokens, tokens)`: the prompt and one's own branch, up to oneself."""
    same = segments[:, :, None] == segments[:, None, :]
    prompt = (segments == 0)[:, None, :]
    causal = torch.ones(segments.shape[1:] * 2, dtype=torch.bool, device=segments.device).tril()
    return ((same | prompt) & causal)[:, None]


def _targets(requests: list[Request]) -> Iterator[tuple[int, int, int, int]]:
    """Row, position that predicts, token predicted, and running number of the option it belongs to."""
    owner = 0
    for row, request in enumerate(requests):
        branch = len(request.context)
        for option in request.options:
            for place, token in enumerate(option):
                yield row, len(request.context) - 1 if place == 0 else branch + place - 1, token, owner
            branch += len(option) - 1
            owner += 1
