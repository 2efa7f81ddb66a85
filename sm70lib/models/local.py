"""Log-likelihoods of options, by a model on this machine.

Prompts and all their options go through the model as one packed row without padding. Each option
is a branch that sees its prompt and itself only (`packed` has a drawing). What several prompts
begin with, such as five fixed shots, is computed once and seen by all. The numbers are those of
scoring every option alone (to 1e-5), for a fraction of the tokens. Logits are computed only where
they predict an option's token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import DynamicCache

from sm70lib.models import packed
from sm70lib.models.packed import Span
from sm70lib.models.request import Request

SPAN = 256  # tokens of short requests that share a span: masked pairs cost less than more calls
READ = 256  # places whose log-probabilities over the whole vocabulary exist at one time
LOGITS = 2**25  # entries of the logits of a pass: 1,048 places of a vocabulary of 32,000


@torch.inference_mode()
def remember(model, ids: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Computes a prefix that prompts share.

    Args:
        model: The model.
        ids: Token ids of the prefix.

    Returns:
        Keys and values of every layer, each `(1, heads, tokens, width)`; [] for an empty prefix.
    """
    if not ids:
        return []
    row = torch.tensor([ids]).to(model.device)
    everything = DynamicCache()  # of every layer; one made for the model forgets beyond a window
    cache = packed.enter(model)(
        input_ids=row, past_key_values=everything, use_cache=True, logits_to_keep=1
    ).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


@torch.inference_mode()
def loglikelihoods(model, asked: Sequence[Request], prefix: Sequence = ()) -> list[list[float]]:
    """Scores every option of every request, in one forward pass or, for memory's sake, a few.

    The requests stand side by side in one row, without padding, and none sees another.

    Args:
        model: The model.
        asked: The requests. Given a prefix, their contexts are what follows it.
        prefix: Keys and values of a shared prefix, from `remember`.

    Returns:
        Summed log-likelihoods (nats): one list per request, with one number per option.
    """
    most = max(1, LOGITS // model.get_input_embeddings().weight.shape[0])
    scores: list[list[float]] = []
    for part in _parts(asked, most):
        scores += _in_one_pass(model, part, prefix)
    return scores


def _parts(asked: Sequence[Request], most: int) -> Iterator[list[Request]]:
    """The requests in groups that read at most so many places, or one request."""
    part: list[Request] = []
    places = 0
    for request in asked:
        own = 1 + sum(len(option) - 1 for option in request.options)
        if part and places + own > most:
            yield part
            part, places = [], 0
        part.append(request)
        places += own
    if part:
        yield part


def _in_one_pass(model, asked: Sequence[Request], prefix: Sequence) -> list[list[float]]:
    known = prefix[0][0].shape[2] if prefix else 0
    about = np.array(list(_tokens(asked)))
    ids, positions = torch.tensor(about[:, :2], device=model.device).T[:, None]
    positions = positions + known
    read, token, option = torch.tensor(list(_targets(asked)), device=model.device).T
    # Options share the end of their prompt, so a place is often read several times.
    places, at = torch.unique(read, return_inverse=True)
    logits = packed.enter(model)(
        input_ids=ids,
        position_ids=positions,
        attention_mask=ids[None, None],  # with four dimensions it is passed on; `packed` ignores it
        use_cache=False,
        logits_to_keep=places,
        prefix=prefix,
        spans=_spans(asked, about, positions[0], known, model.get_input_embeddings().weight),
    ).logits[0]
    sizes = [len(request.options) for request in asked]
    totals = torch.zeros(sum(sizes), dtype=torch.float64, device=model.device)
    totals.index_add_(0, option, _picked(logits, at, token))
    return [part.tolist() for part in totals.cpu().split(sizes)]


def _picked(logits: torch.Tensor, at: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """Log-probability of each `token` by the row `at` of the logits, as float64."""
    picked = torch.empty(len(at), dtype=torch.float64, device=logits.device)
    for number, some in enumerate(logits.split(READ)):
        here = at // READ == number
        picked[here] = some.float().log_softmax(-1)[at[here] % READ, token[here]].double()
    return picked


def _tokens(asked: Sequence[Request]) -> Iterator[tuple[int, int, int, int]]:
    """Id, position, request and branch of every token that goes through the model.

    The branch is 0 in a prompt and counts options from 1. Every option starts at the position
    behind the prompt.
    """
    for number, request in enumerate(asked):
        for position, token in enumerate(request.context):
            yield token, position, number, 0
        for branch, option in enumerate(request.options, 1):
            for position, token in enumerate(option[:-1], len(request.context)):
                yield token, position, number, branch


def _spans(
    asked: Sequence[Request],
    about: np.ndarray,
    positions: torch.Tensor,
    known: int,
    like: torch.Tensor,
) -> list[Span]:
    """The spans of a row: short requests share one, and a long one has its own.

    The prompt of a request that stands alone needs no mask where no prefix of `known` tokens comes
    before it.
    """
    spans: list[Span] = []
    start = end = 0
    for request, following in zip(asked, [*asked[1:], None]):
        end += request.length
        if following and end + following.length - start <= SPAN:
            continue
        middle = start
        stands_alone = request.length == end - start
        if stands_alone and not known:
            middle += len(request.context)
            spans.append(Span(start, start, middle, positions[start:middle]))
        if middle < end:
            mask = _mask(about[start:end], middle - start, known, like)
            spans.append(Span(start, middle, end, positions[start:end], mask))
        start = end
    return spans


def _mask(about: np.ndarray, first: int, known: int, like: torch.Tensor) -> torch.Tensor:
    """What tokens from `first` on see: the prefix, their prompt and their own branch.

    `(1, 1, tokens, known + all)`, 0 for what is seen and -inf for the rest, in the type of `like`.
    """
    owner, branch = about[:, 2], about[:, 3]
    order = np.arange(len(about))
    same_request = owner[first:, None] == owner
    not_later = order[first:, None] >= order
    prompt_or_own_branch = (branch == 0) | (branch[first:, None] == branch)
    seen = same_request & not_later & prompt_or_own_branch
    seen = np.pad(seen, ((0, 0), (known, 0)), constant_values=True)
    mask = np.where(seen, np.float32(0), np.float32(-np.inf))
    return torch.from_numpy(mask).to(like)[None, None]


def _targets(asked: Sequence[Request]) -> Iterator[tuple[int, int, int]]:
    """The place that predicts, the token that is predicted, and the number of its option.

    Options are numbered through all requests.
    """
    place = number = 0
    for request in asked:
        place += len(request.context)
        end_of_prompt = place - 1
        for option in request.options:
            inputs = len(option) - 1
            predictors = [end_of_prompt, *range(place, place + inputs)]
            for predictor, token in zip(predictors, option):
                yield predictor, token, number
            place += inputs
            number += 1
