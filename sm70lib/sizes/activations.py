"""What a pass of training keeps for its backward pass."""

from __future__ import annotations

import torch

from sm70lib.parameters.stages import STAGES
from sm70lib.sizes.shapes import adapted, shape
from sm70lib.study.used import trains_all

# Tokens and vocabulary entries whose logits TRL 1.16 holds at once (its chunked_logprob.py)
TILE = (4096, 32768)
# Those of ATTENTION all read the same input, and so do those of GATED.
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
OUTPUT = "self_attn.o_proj"
GATED = ("mlp.gate_proj", "mlp.up_proj")
DOWN = "mlp.down_proj"


def compute_width(p) -> int:
    """Bytes of a number in the type that the study computes in."""
    return torch.finfo(getattr(torch, p.quant_compute_dtype)).bits // 8


def lora_width(p) -> int:
    """Bytes of a LoRA weight."""
    return 4 if p.lora_dtype == "fp32" else 2


def full_width(p) -> int:
    """Bytes of a weight where all of them are trained."""
    return 4 if p.full_dtype == "fp32" else 2


def activations(config, p, kind: str = "sft") -> dict[str, float]:
    """Bytes that a pass of a Llama keeps for its longest batch, with LoRA or with all weights.

    With checkpointing only the input of each layer is kept, and one layer at a time is computed
    again. `working space` is the largest matrix out of NF4 and the gradients of its products. The
    sum equals what autograd keeps (tests/unit/planning/test_plan.py).

    Args:
        config: The model's configuration.
        p: The study's parameters.
        kind: A kind of stage, such as sft; a pair has two answers.

    Returns:
        Bytes by part.
    """
    answers = 2 if STAGES[kind].reads == "pairs" else 1
    tokens = p.train_micro_batch_size * p.data_max_length * answers
    wide = compute_width(p)
    text = config.get_text_config()
    width, inner, _ = widths(text)
    between = full_width(p) if trains_all(p) else wide  # of what one layer hands to the next
    last_norm = (4 + between) * width if trains_all(p) else 0
    layers = _kept(config, p)
    if p.train_gradient_checkpointing:
        kept = {
            "activations, a layer's input each": tokens * between * width * len(layers),
            "activations, one layer again": tokens * (max(layers) + last_norm),
        }
    else:
        kept = {"activations": tokens * (sum(layers) + last_norm)}
    logits = min(tokens, TILE[0]) * min(text.vocab_size, TILE[1]) * (wide + 4)
    return kept | {"logits": logits, "working space": wide * inner * (width + 3 * tokens)}


def _kept(config, p) -> list[float]:
    """Bytes that each layer keeps for each token."""
    text = config.get_text_config()
    if trains_all(p):
        return [_kept_for_all(text, p)] * text.num_hidden_layers
    return [_kept_for_lora(text, p, targets) for targets in _targets(config, p)]


def _targets(config, p) -> list[set[str]]:
    """What of each layer gets an adapter."""
    kinds = (*ATTENTION, OUTPUT, *GATED, DOWN)
    numbers = range(config.get_text_config().num_hidden_layers)
    if p.lora_targets.lower() == "all-linear":
        return [set(kinds) for _ in numbers]
    # Layers stand in model., or in model.language_model. beside a vision tower.
    names = [name for name, _, _ in adapted(shape(config), p.lora_targets)]
    found = {name[name.find("layers.") :] for name in names}
    return [{kind for kind in kinds if f"layers.{number}.{kind}" in found} for number in numbers]


def _kept_for_all(config, p) -> float:
    """Bytes that a layer keeps for each token if all its weights get a gradient.

    These are the inputs of both norms (32 bits) and what they make of them, the inputs of the
    linear layers (five copies if they have to be cast for each), queries, keys and values, the
    output of attention, and four feed-forward products.
    """
    wide, own = compute_width(p), full_width(p)
    width, inner, keys = widths(config)
    norms = 2 * (4 + own) * width + 4 * (config.num_attention_heads + 2)
    inputs = wide * width * (2 if wide == own else len({*ATTENTION, *GATED}))
    return norms + inputs + wide * (2 * width + keys + 4 * inner)


def _kept_for_lora(config, p, targets: set[str]) -> float:
    """Bytes that a layer keeps for each token if its adapter gets a gradient.

    These are the inputs of both norms (32 bits), queries, keys and values, the output of attention,
    three feed-forward products, and the inputs of LoRA's matrices. The matrices share an input, or
    each has a copy if types differ or dropout (with its mask) comes between. The attention weights
    are never stored.
    """
    wide = compute_width(p)
    width, inner, keys = widths(config)
    down = inner * (DOWN in targets)
    copied = width * len(targets - {DOWN}) + down
    shared = width * (bool(targets & {*ATTENTION}) + bool(targets & {*GATED})) + down
    apart = p.lora_dropout > 0 or wide != lora_width(p)
    norms = 8 * width + 4 * (config.num_attention_heads + 2)
    products = wide * (2 * width + keys + 3 * inner + len(targets) * p.lora_r)
    lora_inputs = wide * (copied if apart else shared)
    dropout_masks = copied * (p.lora_dropout > 0)
    return norms + products + lora_inputs + dropout_masks


def widths(config) -> tuple[int, int, int]:
    """Widths of a layer: of its input, of its feed-forward part, and of keys and values together.

    Without a width in the configuration, the feed-forward part is four times as wide as the input.
    """
    width, heads = config.hidden_size, config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * width
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    head_width = getattr(config, "head_dim", None) or width // heads
    return width, inner, 2 * key_heads * head_width
