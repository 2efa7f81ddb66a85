"""A model on this machine answers: log-likelihoods of options, and text."""


from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Iterator, Sequence

import numpy as np
import torch

from sm70lib.corpus.tokens import prompt_ids
from sm70lib.models import packed
from sm70lib.models.packed import Span


def answer(loaded, tokenizer, prompt: str, max_new_tokens: int) -> str:
    """What a model writes after BOS and `prompt`, greedily, up to its EOS or `max_new_tokens` tokens."""
    return written(loaded, tokenizer, prompt_ids([prompt], tokenizer), max_new_tokens)[0][0]


@torch.inference_mode()
def written(loaded, tokenizer, prompts: list[list[int]], max_new_tokens: int, samples: int = 1, seed: int = 0
            ) -> list[list[str]]:
    """What a model writes after each prompt of token ids: greedily, or `samples` draws at temperature 0.8."""
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    how = {"do_sample": True, "temperature": 0.8, "top_k": 0, "num_return_sequences": samples} if samples > 1 else {
        "do_sample": False}
    torch.manual_seed(seed)
    rows = loaded.generate(ids.to(loaded.device), attention_mask=seen.to(loaded.device), use_cache=True,
                           max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id, **how)
    texts = [text.strip() for text in tokenizer.batch_decode(rows[:, width:], skip_special_tokens=True)]
    return [texts[start:start + samples] for start in range(0, len(texts), samples)]


# ---- log-likelihoods --------------------------------------------------------------------------------

SPAN = 256  # tokens of short requests that share a span: masked pairs of tokens cost less than more calls
READ = 256  # places whose logits over the whole vocabulary exist at one time


@dataclass(frozen=True)
class Request:
    """Token ids of a prompt and of each option that could follow it (at least one token each)."""

    context: list[int]
    options: list[list[int]]

    @property
    def length(self) -> int:
        """Tokens that go through the model; an option's last token is only predicted, never read."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)


@torch.inference_mode()
def remember(model, ids: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values `(1, heads, tokens, width)` of every layer for a prefix that prompts share; [] for none."""
    if not ids:
        return []
    cache = _decoder(model)(input_ids=torch.tensor([ids]).to(model.device), use_cache=True).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


@torch.inference_mode()
def loglikelihoods(model, asked: Sequence[Request], prefix: Sequence = ()) -> list[list[float]]:
    """Summed log-likelihood (nats) of every option of every request, in one forward pass.

    The requests stand side by side in one row, without padding, and none sees another. Given a `prefix`
    (from `remember`), their contexts are what follows it.
    """
    known = prefix[0][0].shape[2] if prefix else 0
    about = np.array(list(_tokens(asked)))
    ids, places = torch.tensor(about[:, :2], device=model.device).T[:, None]
    hidden = _decoder(model)(  # a mask of four dimensions is taken as it is; `packed` brings its own
        input_ids=ids, position_ids=places + known, attention_mask=ids[None, None], use_cache=False, prefix=prefix,
        spans=_spans(asked, about, known, model.get_input_embeddings().weight)).last_hidden_state[0]
    read, token, option = torch.tensor(list(_targets(asked)), device=model.device).T
    places, at = torch.unique(read, return_inverse=True)  # options share the end of their prompt
    picked = torch.empty(len(at), dtype=torch.float64, device=model.device)
    for number, some in enumerate(places.split(READ)):
        here, logits = at // READ == number, model.get_output_embeddings()(hidden[some]).float()
        picked[here] = logits.log_softmax(-1)[at[here] % READ, token[here]].double()
    sizes = [len(request.options) for request in asked]
    totals = torch.zeros(sum(sizes), dtype=torch.float64, device=model.device).index_add_(0, option, picked)
    return [part.tolist() for part in totals.cpu().split(sizes)]


def _decoder(model):
    decoder = (model.get_base_model() if hasattr(model, "get_base_model") else model).get_decoder()
    if decoder.config._attn_implementation != packed.NAME:  # which is sdpa wherever there is one sequence to a row
        decoder.set_attn_implementation(packed.NAME)
    return decoder


def _tokens(asked: Sequence[Request]) -> Iterator[tuple[int, int, int, int]]:
    """Of every token that goes through the model: its id, position, request and branch (0 prompt, 1.. options)."""
    for number, request in enumerate(asked):
        size = len(request.context)
        for branch, tokens in enumerate([request.context, *(option[:-1] for option in request.options)]):
            for place, token in enumerate(tokens, size if branch else 0):
                yield token, place, number, branch


def _spans(asked: Sequence[Request], about: np.ndarray, known: int, like: torch.Tensor) -> list[Span]:
    """Short requests share a span; the prompt of a long one, where it follows nothing, needs no mask."""
    found, start, end = [], 0, 0
    for request, following in zip(asked, [*asked[1:], None]):
        end += request.length
        if following and end + following.length - start <= SPAN:
            continue
        middle = start
        if request.length == end - start and not known:
            middle += len(request.context)
            found.append(Span(start, start, middle))
        if middle < end:
            found.append(Span(start, middle, end, _mask(about[start:end], middle - start, known, like)))
        start = end
    return found


def _mask(about: np.ndarray, first: int, known: int, like: torch.Tensor) -> torch.Tensor:
    """What tokens from `first` on see, `(1, 1, tokens, known + all)`: prefix, their prompt, their own branch."""
    owner, branch, order = about[:, 2], about[:, 3], np.arange(len(about))
    seen = (owner[first:, None] == owner) & (order[first:, None] >= order)
    seen &= (branch == 0) | (branch[first:, None] == branch)
    seen = np.pad(seen, ((0, 0), (known, 0)), constant_values=True)
    return torch.from_numpy(np.where(seen, np.float32(0), np.float32(-np.inf))).to(like)[None, None]


def _targets(asked: Sequence[Request]) -> Iterator[tuple[int, int, int]]:
    """Place that predicts, token predicted, and running number of the option it belongs to."""
    end = number = 0
    for request in asked:
        end += len(request.context)
        last = end - 1
        for number, option in enumerate(request.options, number):
            yield from zip([last, *range(end, end + len(option) - 1)], option, itertools.repeat(number))
            end += len(option) - 1
        number += 1
