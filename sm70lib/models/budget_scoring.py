"""What a model needs to be loaded, merged and scored with."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import safe_open

from sm70lib import protocols
from sm70lib.models.budget import adapter_weights, constants, tile_width, widths
from sm70lib.models.local import READ
from sm70lib.models.shapes import configuration, shape, stored_bytes
from sm70lib.protocols.protocol import Protocol
from sm70lib.study import memory

# ---- loading, merging, scoring -------------------------------------------------------------


def loaded(model, p, guess: bool = True) -> float:
    """Bytes of the base as `p` quantises it; `p` None: in its checkpoint's own precision."""
    found = shape(model, guess)
    if p is None:
        return found.weights * stored_bytes(model, guess)
    quantised = found.quantisable if p.quant_type != "none" else 0
    return quantised / 2 + constants(found, p) + (found.weights - quantised) * tile_width(p)


def load_peak(model, p, guess: bool = True) -> float:
    """Bytes while a base is quantised: one matrix at a time is whole (transformers 5.23)."""
    whole = (
        shape(model, guess).largest * stored_bytes(model, guess) if p.quant_type != "none" else 0
    )
    return loaded(model, p, guess) + whole


def compared(model, guess: bool = True, rows: int = 8, tokens: int = 129) -> float:
    """Bytes in which the full base is compared: weights, logits and their log-probabilities."""
    return (
        loaded(model, None, guess) + 2 * 4 * rows * tokens * configuration(model, guess).vocab_size
    )


def adapter_bytes(model, p) -> float:
    """Bytes of the study's adapter once it is read: PEFT makes 32 bits of 16."""
    return 4.0 * adapter_weights(shape(model), p)


def saved_adapter_bytes(folder: Path) -> float:
    """The same of an adapter that there is."""
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return 4.0 * sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def merging(model, p) -> float:
    """Bytes of RAM in which an adapter is merged: base, adapter, one product."""
    return loaded(model, None) + adapter_bytes(model, p) + 4 * shape(model).largest


def scoring(
    model, p, quantised: bool, adapter: float, tokens: int | None = None, guess: bool = True
) -> float:
    """Bytes to score a model and its `adapter` in batches of `tokens` (`eval_batch_tokens`).

    To the weights comes what a pass without gradients holds: inputs and products of one
    feed-forward layer (beside an adapter also PEFT's, in 32 bits), a matrix out of NF4, logits of a
    few places, and keys and values: of all tokens where the model writes, else of the shots that
    prompts share.
    """
    config, found, asked = (
        configuration(model, guess).get_text_config(),
        shape(model, guess),
        _asked(p),
    )
    width, inner, keys = widths(config)
    wide = tile_width(p) if quantised else stored_bytes(model, guess)
    context = longest(model, p, guess)
    tokens = max(tokens or p.eval_batch_tokens, context)  # one prompt may be as long as that
    remembered = (
        tokens if any(protocol.reads for protocol in asked) else context if max(p.eval_shots) else 0
    )
    held = tokens * (4 * wide * width + (3 * wide + 8 * bool(adapter)) * inner)
    held += config.num_hidden_layers * keys * wide * remembered
    held += READ * config.vocab_size * (wide + 8) + (wide * found.largest if quantised else 0)
    return loaded(model, p if quantised else None, guess) + adapter + held


def batch_tokens(
    model, p, quantised: bool, adapter: float, there_gb: float, guess: bool = True
) -> int | None:
    """`eval_batch_tokens`, or the largest half, quarter ... of it that `there_gb` can score with.

    None where not even batches of one prompt fit.
    """
    tokens, least = p.eval_batch_tokens, longest(model, p, guess)
    while memory.rounded_up(scoring(model, p, quantised, adapter, tokens, guess)) > there_gb:
        if tokens <= least:
            return None
        tokens = max(tokens // 2, least)
    return tokens


def longest(model, p, guess: bool = True) -> int:
    """Tokens of the longest prompt that model and protocols allow."""
    allowed = max(protocol.max_context for protocol in _asked(p))
    config = configuration(model, guess).get_text_config()
    return min(allowed, getattr(config, "max_position_embeddings", allowed))


def _asked(p) -> list[Protocol]:
    return [protocols.named(name) for name in p.eval_protocols]
