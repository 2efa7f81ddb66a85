"""Attention over packed rows: each span sees itself, and the prefix that all share."""


from __future__ import annotations

from typing import NamedTuple

import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"  # of this attention, as transformers knows it once this module is imported


class Span(NamedTuple):
    """Tokens `first` to `last` of a packed row: they see it from `begin` on, causally or as `mask` (0, -inf) says."""

    begin: int
    first: int
    last: int
    mask: torch.Tensor | None = None


def packed(module, query, key, value, attention_mask, cu_seq_lens_q=None, spans=(), prefix=(), **how):
    """Attention of one row that holds many sequences, part by part, so that none costs for what it may not see.

    With one mask for all, every token would pay for the whole row. `cu_seq_lens_q` (TRL's): where sequences begin,
    and the end; or `spans` that cover the row. `prefix`: keys and values of a layer, which all spans see. Raises
    ValueError where positions begin anew and nothing says where sequences do.
    """
    if cu_seq_lens_q is not None:
        parts = zip(*(states.split(cu_seq_lens_q.diff().tolist(), dim=2) for states in (query, key, value)))
        return torch.cat([sdpa_attention_forward(module, *part, None, **how)[0] for part in parts], dim=1), None
    if not spans:
        if attention_mask is None and how.get("position_ids", query.new_zeros(1)).diff().lt(1).any():
            raise ValueError("packed sequences came without cu_seq_lens_q and would see each other")
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    found = []
    for span in spans:
        seen = [states[:, :, span.begin:span.last] for states in (key, value)]
        if prefix:
            seen = [torch.cat(pair, dim=2) for pair in zip(prefix[module.layer_idx], seen)]
        found.append(sdpa_attention_forward(module, query[:, :, span.first:span.last], *seen, span.mask, **how)[0])
    return torch.cat(found, dim=1), None


def packed_mask(*sizes, attention_mask=None, **how):
    """Padding alone needs a mask: a packed row of thousands of tokens would make, for nothing, their square."""
    return None if attention_mask is None else sdpa_mask(*sizes, attention_mask=attention_mask, **how)


AttentionInterface.register(NAME, packed)
AttentionMaskInterface.register(NAME, packed_mask)
