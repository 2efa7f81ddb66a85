"""A first look at every model, before the first of them is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sm70lib.inspection import adapters, architecture, places, tokenizers, weights
from sm70lib.sizes import budget_scoring, shapes
from sm70lib.study import memory
from sm70lib.study.files import WEIGHTS


def look_at_all(found: Iterable, p) -> None:
    """Prints a sentence on every model (see `look`)."""
    for which in found:
        print(look(which, p))


def look(which, p) -> str:
    """Looks at a model: at its files, family, tokenizer and adapter.

    Args:
        which: The model (`candidates.Model`).
        p: The study's parameters.

    Returns:
        One sentence on it.

    Raises:
        StudyError: If it could not be scored; the sentence says why.
    """
    if which.server:
        _look_at_tokenizer(which)
        return f"{which.name}: {which.server.model}, asked at {which.server.url}"
    own = which.name not in p.eval_models
    key = "base_model" if own else f"eval_models: {which.name}"
    folder = places.model(which.source, key)
    config = architecture.configuration(which.source, folder, key)
    architecture.check(which.source, config, key, which.quantised)
    weights.check(which.source, folder, key)
    rows = config.get_text_config().vocab_size
    fits: list[str] = []
    if which.adapter and not own:
        rows, said = adapters.check(places.adapter(which.adapter, key), which.source, config, key)
        fits.append(said)
    tokenizer = tokenizers.check(which.words, rows, key, which.chat)
    parts = [
        f"{config.model_type}, {shapes.shape(config).weights:,} weights{_stored(which, config)}",
        *fits,
        *tokenizers.words(tokenizer, folder, config, which.chat),
        _needs(which, p),
    ]
    return f"{which.name}: {'; '.join(parts)}"


def _look_at_tokenizer(which) -> None:
    """Looks at the tokenizer of a model on a server, if the line gives it."""
    key = f"eval_models: {which.name}: tokenizer"
    if which.source:
        places.model(which.source, key)
        tokenizers.check(which.words, None, key, which.chat)


def _stored(which, config) -> str:
    if which.quantised:
        return " in NF4"
    dtype = getattr(config, "dtype", None)
    return f" in {str(dtype).removeprefix('torch.')}" if dtype else ""


def _needs(which, p) -> str:
    """The least memory that scoring takes, and the memory here."""
    saved = 0.0
    if which.adapter and (Path(which.adapter) / WEIGHTS).is_file():
        saved = budget_scoring.saved_adapter_bytes(which.adapter)
    least = budget_scoring.scoring(which.source, p, which.quantised, saved, tokens=1, guess=False)
    there = memory.at_hand()
    return f"needs {memory.words(memory.rounded_up(least))} of {memory.words(there.gb)} here"
