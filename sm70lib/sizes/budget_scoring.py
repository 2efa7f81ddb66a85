"""The memory that a model needs to be loaded, merged and scored with."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import safe_open

from sm70lib import protocols
from sm70lib.models.local import LOGITS, READ
from sm70lib.protocols.protocol import Protocol
from sm70lib.sizes.activations import compute_width, widths
from sm70lib.sizes.budget import adapter_weights, constants
from sm70lib.sizes.shapes import configuration, shape, stored_bytes
from sm70lib.study import memory
from sm70lib.study.files import WEIGHTS


def loaded(model, p, guess: bool = True) -> float:
    """Bytes of the base as `p` quantises it; without `p`, in its checkpoint's own precision."""
    found = shape(model, guess)
    if p is None:
        return found.weights * stored_bytes(model, guess)
    quantised = found.quantisable if p.quant_type != "none" else 0
    return quantised / 2 + constants(found, p) + (found.weights - quantised) * compute_width(p)


def load_peak(model, p, guess: bool = True) -> float:
    """Bytes while a base is quantised: one matrix at a time is whole (transformers 5.23)."""
    total = loaded(model, p, guess)
    if p.quant_type != "none":
        total += shape(model, guess).largest * stored_bytes(model, guess)
    return total


def compared(model, guess: bool = True, rows: int = 8, tokens: int = 129) -> float:
    """Bytes to compare the full base: weights, logits and their log-probabilities."""
    config = configuration(model, guess).get_text_config()
    logits = 4 * rows * tokens * config.vocab_size
    return loaded(model, None, guess) + 2 * logits


def adapter_bytes(model, p) -> float:
    """Bytes of the study's adapter in memory, where PEFT makes 32 bits of 16."""
    return 4.0 * adapter_weights(shape(model), p)


def saved_adapter_bytes(folder: Path) -> float:
    """Bytes in memory of an adapter that was saved in a folder, with the same 32 bits."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        return 4.0 * sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def merging(model, p) -> float:
    """Bytes of RAM to merge an adapter: base, adapter and one product."""
    return loaded(model, None) + adapter_bytes(model, p) + 4 * shape(model).largest


def scoring(
    model, p, quantised: bool, adapter: float, tokens: int | None = None, guess: bool = True
) -> float:
    """Bytes to score a model.

    A pass without gradients holds more than the weights: inputs and products of one feed-forward
    layer (with an adapter also PEFT's, in 32 bits), a matrix out of NF4, the logits that are read,
    and keys and values. Keys and values are those of all tokens if the model writes, else those of
    the shots that prompts share.

    Args:
        model: Folder, hub name or configuration of the model.
        p: The study's parameters.
        quantised: Whether the model is quantised as `p` says.
        adapter: Bytes of its adapter, 0 without.
        tokens: Tokens of a batch; by default `eval_batch_tokens`.
        guess: Whether known_models.yml may describe the model.
    """
    config = configuration(model, guess).get_text_config()
    width, inner, keys = widths(config)
    wide = compute_width(p) if quantised else stored_bytes(model, guess)
    context = longest(model, p, guess)
    tokens = max(tokens or p.eval_batch_tokens, context)  # one prompt may be as long as that
    held = tokens * (4 * wide * width + (3 * wide + 8 * bool(adapter)) * inner)
    held += config.num_hidden_layers * keys * wide * _remembered(p, tokens, context)
    held += min(LOGITS, tokens * config.vocab_size) * wide + READ * config.vocab_size * 8
    if quantised:
        held += wide * shape(model, guess).largest
    return loaded(model, p if quantised else None, guess) + adapter + held


def _remembered(p, tokens: int, context: int) -> int:
    """Tokens whose keys and values are kept."""
    if any(protocol.reads for protocol in _asked(p)):
        return tokens
    return context if max(p.eval_shots) else 0


def batch_tokens(
    model, p, quantised: bool, adapter: float, there_gb: float, guess: bool = True
) -> int | None:
    """The largest batch that fits: `eval_batch_tokens`, or half of it, or a quarter, and so on.

    Args:
        model: Folder, hub name or configuration of the model.
        p: The study's parameters.
        quantised: Whether the model is quantised as `p` says.
        adapter: Bytes of its adapter, 0 without.
        there_gb: The memory that there is (GB, 10^9 bytes).
        guess: Whether known_models.yml may describe the model.

    Returns:
        Tokens of a batch; None if not even batches of one prompt fit.
    """
    tokens = p.eval_batch_tokens
    least = longest(model, p, guess)
    while memory.rounded_up(scoring(model, p, quantised, adapter, tokens, guess)) > there_gb:
        if tokens <= least:
            return None
        tokens = max(tokens // 2, least)
    return tokens


def longest(model, p, guess: bool = True) -> int:
    """Tokens of the longest prompt that the model and the protocols allow."""
    allowed = max(protocol.max_context for protocol in _asked(p))
    config = configuration(model, guess).get_text_config()
    return min(allowed, getattr(config, "max_position_embeddings", allowed))


def _asked(p) -> list[Protocol]:
    return [protocols.named(name) for name in p.eval_protocols]
