"""Attention over packed rows: several sequences stand in one row, and each sees only its own.

Scoring packs requests, each a prompt and its options, into one row without padding. A request's
prompt stands first; then each option follows as a branch, without its last token, which is only
predicted. A prefix that all prompts share is computed once. It is no part of the row: its keys and
values come before those of each span.

    prefix       row
    x x x x x    p p p p a a b b b   q q q a b b   r r r r ... r a a a b b
                 '- request 1 -----' '- request 2 ' '- request 3 (long) ---'
                 '-------- one span, with a mask -' '- its own span(s) -----'

Short requests share a span. The mask keeps them apart. Who (rows) attends to whom (columns):

                  prefix   prompt 1   1a       1b       prompt 2   2a       2b
    prompt 1      all      causal     .        .        .          .        .
    option 1a     all      all        causal   .        .          .        .
    option 1b     all      all        .        causal   .          .        .
    prompt 2      all      .          .        .        causal     .        .
    option 2a     all      .          .        .        all        causal   .
    option 2b     all      .          .        .        all        .        causal

A request that does not fit beside its neighbours has one masked span like this for itself. Without
a prefix it has two: its prompt is plainly causal and needs no mask, and its options have a mask.

    r r r r ... r a a a b b
    '- causal --' '- mask -'   both spans see keys from the first r on

`local` makes these spans. In training, TRL packs plain sequences instead and tells where each
begins; then each is causal and sees itself alone.

A layer with a sliding window sees no further back than the window, counted in positions: those of
a prefix come first, and every option starts behind its prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"  # of this attention, as transformers knows it once this module is imported

# PyTorch 2.11 and later prefers cuDNN's attention on Hopper and Blackwell (transformers#48163).
# cuDNN builds a plan for each new length, and packed parts have a length each. On a B200, a plan
# takes 0.44 s forward and 0.55 s backward (modelscope/FunASR#3704).
torch.backends.cuda.enable_cudnn_sdp(False)


@dataclass(frozen=True, eq=False)
class Span:
    """Tokens of a packed row that attend together.

    Attributes:
        begin: Place in the row of the first token that they may see.
        first: Place of the first token of the span.
        last: Place behind its last token; they see no further than that.
        positions: Positions of the tokens from `begin` to `last`, `(seen,)`.
        mask: `(1, 1, tokens, prefix + seen)`, 0 where a token sees another and -inf where it does
            not. None for causal attention.
    """

    begin: int
    first: int
    last: int
    positions: torch.Tensor
    mask: torch.Tensor | None = None
    _masks: dict[int, torch.Tensor | None] = field(default_factory=dict)

    def mask_within(self, window: int | None, known: int, like: torch.Tensor):
        """The mask of a layer.

        Args:
            window: Positions that the layer looks back, its own among them; None for all.
            known: Tokens of the prefix, which have the positions before the row's.
            like: A tensor of the mask's type and device.
        """
        if window is None or int(self.positions.max()) < window:
            return self.mask
        if window not in self._masks:
            self._masks[window] = self._windowed(window, known, like)
        return self._masks[window]

    def _windowed(self, window: int, known: int, like: torch.Tensor) -> torch.Tensor:
        before = torch.arange(known, device=self.positions.device)
        keys = torch.cat((before, self.positions))
        queries = self.positions[self.first - self.begin :]
        too_far = queries[:, None] - keys >= window
        seen = self._causal(like) if self.mask is None else self.mask
        return seen.masked_fill(too_far.to(seen.device), -torch.inf)

    def _causal(self, like: torch.Tensor) -> torch.Tensor:
        """The mask of a span that has none: it stands alone, and no prefix comes before it."""
        return _causal_mask(self.last - self.first, None, like.dtype, like.device)


@lru_cache(maxsize=16)
def _causal_mask(
    tokens: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """The mask of one sequence, `(1, 1, tokens, tokens)`, which may have a window."""
    order = torch.arange(tokens, device=device)
    distance = order[:, None] - order
    hidden = distance < 0
    if window is not None:
        hidden = hidden | (distance >= window)
    mask = torch.zeros(tokens, tokens, dtype=dtype, device=device)
    return mask.masked_fill(hidden, -torch.inf)[None, None]


def packed(
    module, query, key, value, attention_mask, cu_seq_lens_q=None, spans=(), prefix=(), **how
):
    """Attention of one row that holds many sequences, computed part by part.

    With one mask for all, every token would pay for the whole row.

    Args:
        module: The attention layer.
        query: `(1, heads, tokens, width)`; `key` and `value` are alike.
        key: See `query`.
        value: See `query`.
        attention_mask: A mask for rows that hold one sequence each.
        cu_seq_lens_q: Places where sequences begin, and the end of the row (given by TRL).
        spans: Spans that cover the row, in its order.
        prefix: Keys and values of each layer, which all spans see.
        how: Passed on to the attention of each part.

    Returns:
        The output, `(1, tokens, heads, width)`, and None in place of attention weights.

    Raises:
        ValueError: If positions start again but nothing says where the sequences begin; or if the
            layer has attention sinks or caps its logits.
    """
    if how.get("s_aux") is not None or how.get("softcap") is not None:
        raise ValueError("attention with sinks or capped logits cannot be packed")
    if cu_seq_lens_q is not None:
        return _each_sequence(module, query, key, value, cu_seq_lens_q, how), None
    if spans:
        return _each_span(module, query, key, value, spans, prefix, how), None
    positions = how.get("position_ids", query.new_zeros(1))
    if attention_mask is None and positions.diff().lt(1).any():
        raise ValueError("packed sequences came without cu_seq_lens_q and would see each other")
    return sdpa_attention_forward(module, query, key, value, attention_mask, **how)


def _each_sequence(module, query, key, value, bounds, how: dict[str, Any]) -> torch.Tensor:
    sizes = bounds.diff().tolist()
    window = how.get("sliding_window")
    outputs = []
    for queries, keys, values in zip(*(states.split(sizes, 2) for states in (query, key, value))):
        tokens = queries.shape[2]
        mask = None
        if window is not None and tokens > window:
            mask = _causal_mask(tokens, window, query.dtype, query.device)
        outputs.append(sdpa_attention_forward(module, queries, keys, values, mask, **how)[0])
    return torch.cat(outputs, dim=1)


def _each_span(module, query, key, value, spans, prefix, how: dict[str, Any]) -> torch.Tensor:
    window = how.get("sliding_window")
    known = prefix[0][0].shape[2] if prefix else 0
    outputs = []
    for span in spans:
        queries = query[:, :, span.first : span.last]
        keys = key[:, :, span.begin : span.last]
        values = value[:, :, span.begin : span.last]
        if prefix:
            prefix_keys, prefix_values = prefix[module.layer_idx]
            keys = torch.cat((prefix_keys, keys), dim=2)
            values = torch.cat((prefix_values, values), dim=2)
        mask = span.mask_within(window, known, query)
        outputs.append(sdpa_attention_forward(module, queries, keys, values, mask, **how)[0])
    return torch.cat(outputs, dim=1)


def packed_mask(*sizes, attention_mask=None, local_size=None, **how):
    """The mask for padding or for a window, or None without either.

    For a packed row of thousands of tokens, any other mask would hold their square for nothing.
    """
    if attention_mask is None and local_size is None:
        return None
    return sdpa_mask(*sizes, attention_mask=attention_mask, local_size=local_size, **how)


def enter(model) -> torch.nn.Module:
    """Sets a model to attend as `packed` does; rows of one sequence each change nothing.

    Returns:
        The model without PEFT's wrapper; its adapter stays in its layers.
    """
    whole = _unwrapped(model)
    decoder = whole.get_decoder()
    own = decoder.config._attn_implementation
    if own != NAME:
        _OWN[decoder] = own
        decoder.set_attn_implementation(NAME)
    return whole


def leave(model) -> torch.nn.Module:
    """Sets a model back to the attention that it was loaded with; returns it as `enter` does."""
    whole = _unwrapped(model)
    decoder = whole.get_decoder()
    if decoder in _OWN and decoder.config._attn_implementation == NAME:
        decoder.set_attn_implementation(_OWN[decoder])
    return whole


def _unwrapped(model):
    return model.get_base_model() if hasattr(model, "get_base_model") else model


_OWN: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()  # attention as loaded

AttentionInterface.register(NAME, packed)
AttentionMaskInterface.register(NAME, packed_mask)
