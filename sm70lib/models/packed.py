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
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Span(NamedTuple):
    """Tokens of a packed row that attend together.

    Attributes:
        begin: Place in the row of the first token that they may see.
        first: Place of the first token of the span.
        last: Place behind its last token; they see no further than that.
        mask: `(1, 1, tokens, prefix + seen)`, 0 where a token sees another and -inf where it does
            not. None for causal attention.
    """

    begin: int
    first: int
    last: int
    mask: torch.Tensor | None = None


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
        ValueError: If positions start again but nothing says where the sequences begin.
    """
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
    outputs = []
    for queries, keys, values in zip(*(states.split(sizes, 2) for states in (query, key, value))):
        outputs.append(sdpa_attention_forward(module, queries, keys, values, None, **how)[0])
    return torch.cat(outputs, dim=1)


def _each_span(module, query, key, value, spans, prefix, how: dict[str, Any]) -> torch.Tensor:
    outputs = []
    for span in spans:
        queries = query[:, :, span.first : span.last]
        keys = key[:, :, span.begin : span.last]
        values = value[:, :, span.begin : span.last]
        if prefix:
            prefix_keys, prefix_values = prefix[module.layer_idx]
            keys = torch.cat((prefix_keys, keys), dim=2)
            values = torch.cat((prefix_values, values), dim=2)
        outputs.append(sdpa_attention_forward(module, queries, keys, values, span.mask, **how)[0])
    return torch.cat(outputs, dim=1)


def packed_mask(*sizes, attention_mask=None, **how):
    """The mask for padding, or None without padding.

    For a packed row of thousands of tokens, any other mask would hold their square for nothing.
    """
    if attention_mask is None:
        return None
    return sdpa_mask(*sizes, attention_mask=attention_mask, **how)


AttentionInterface.register(NAME, packed)
AttentionMaskInterface.register(NAME, packed_mask)
