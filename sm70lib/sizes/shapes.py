"""What is known of a model before it is loaded: its configuration, layers and weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from sm70lib.sizes import known
from sm70lib.steps import weights
from sm70lib.study.params import StudyError
from sm70lib.untrusted.time_limit import matches


def configuration(model: str | Path | PretrainedConfig, guess: bool = True) -> PretrainedConfig:
    """A model's configuration, from its folder or the hub's local cache, else from the hub.

    Args:
        model: Folder or hub name of the model, or its configuration.
        guess: Whether known_models.yml answers before the hub for a model that is not here yet.

    Raises:
        OSError: If the configuration cannot be read.
        ValueError: If it is not a configuration of a known kind.
    """
    if isinstance(model, PretrainedConfig):
        return model
    try:
        return AutoConfig.from_pretrained(
            weights.place(model), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError):
        if guess and str(model) in known.MODELS:
            return AutoConfig.for_model(**known.MODELS[str(model)].config.model_dump())
    return AutoConfig.from_pretrained(str(model), trust_remote_code=False)


def made_here(p) -> LlamaConfig:
    """The base that 00_base trains, if its tokenizer has as many entries as `base_vocab_size`."""
    return LlamaConfig(
        vocab_size=p.base_vocab_size,
        hidden_size=p.base_hidden_size,
        num_hidden_layers=p.base_layers,
        num_attention_heads=p.base_heads,
        num_key_value_heads=p.base_kv_heads,
        intermediate_size=p.base_intermediate_size,
        max_position_embeddings=p.base_context,
        tie_word_embeddings=True,
        dtype="float32",
    )


@dataclass(frozen=True)
class Shape:
    """The size of a model.

    Attributes:
        linear: Its linear layers without the head: name, inputs, outputs.
        head: The head in the same form; empty if it is not a linear layer.
        weights: Number of all weights.
        beside: Names of those linear layers that text never reaches, such as a vision tower's.
    """

    linear: tuple[tuple[str, int, int], ...]
    head: tuple[tuple[str, int, int], ...]
    weights: int
    beside: frozenset[str] = frozenset()

    @property
    def quantisable(self) -> int:
        """Weights that bitsandbytes stores in four bits."""
        return sum(inputs * outputs for _, inputs, outputs in self.linear)

    @property
    def largest(self) -> int:
        """Weights of the largest matrix that is quantised."""
        return max((inputs * outputs for _, inputs, outputs in self.linear), default=0)


def shape(model: str | Path | PretrainedConfig, guess: bool = True) -> Shape:
    """The size of a model, whose modules are built without storage: a 70B costs nothing."""
    return _shape(_Hashed(configuration(model, guess)))


class _Hashed:
    """A configuration that can be a key of a cache: five models of one study share one."""

    def __init__(self, config: PretrainedConfig):
        self.config, self.text = config, config.to_json_string(use_diff=False)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and self.text == other.text


@lru_cache
def _shape(hashed: _Hashed) -> Shape:
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(hashed.config, trust_remote_code=False)
    head = built.get_output_embeddings()
    every = {
        module: (name, module.in_features, module.out_features)
        for name, module in built.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return Shape(
        tuple(layer for module, layer in every.items() if module is not head),
        tuple(layer for module, layer in every.items() if module is head),
        sum(weight.numel() for weight in built.parameters()),
        _beside(built) & {name for name, _, _ in every.values()},
    )


def _beside(built: PreTrainedModel) -> frozenset[str]:
    """Names of all that stands neither in the language model nor in its head.

    Only a configuration that nests the text's own has something beside it.
    """
    if built.config.get_text_config() is built.config:
        return frozenset()
    of_text = {*built.get_decoder().modules(), built.get_output_embeddings()}
    return frozenset(name for name, module in built.named_modules() if module not in of_text)


def adapted(found: Shape, targets: str) -> list[tuple[str, int, int]]:
    """The layers that get an adapter: of the language model, as text trains no other one.

    Args:
        found: The model's size.
        targets: `lora_targets`: all-linear, or a regular expression for whole names, as in PEFT.

    Returns:
        Name, inputs and outputs of each of these layers.

    Raises:
        StudyError: If the expression matches no layer, or takes for ever.
    """
    of_text = [layer for layer in found.linear if layer[0] not in found.beside]
    if targets.lower() == "all-linear":
        return of_text
    every = (*of_text, *found.head)
    try:
        layers = [layer for layer in every if matches(targets, layer[0])]
    except ValueError as error:
        raise StudyError(f"lora_targets {targets!r}: {error}") from None
    if not layers:
        example = f", such as {of_text[0][0]}" if of_text else ""
        raise StudyError(
            f"lora_targets {targets!r} fits the whole name of no layer{example}: "
            "give all-linear, or a regular expression for whole names"
        )
    return layers


def targets_in(found: Shape, targets: str) -> str | list[str]:
    """The layers that get an adapter, as PEFT is told them.

    PEFT takes `targets` itself for a model of text alone. In any other model it would also adapt
    what stands beside the language model, so it is given the names of `adapted`.

    Args:
        found: The model's size.
        targets: `lora_targets`.

    Raises:
        StudyError: As `adapted`.
    """
    if not found.beside:
        return targets
    return [name for name, _, _ in adapted(found, targets)]


def stored_bytes(model: str | Path | PretrainedConfig, guess: bool) -> int:
    """Bytes per weight if the model is loaded in its checkpoint's own precision."""
    dtype = getattr(configuration(model, guess), "dtype", None)
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    if dtype is not None:
        return torch.finfo(dtype).bits // 8
    if str(model) in known.MODELS:
        return known.MODELS[str(model)].bytes_per_weight
    return 4
