"""Whether a model can be packed: the same random prompts, packed and plainly, must score alike.

After loading, and before any item or any step of training, a model answers twice: packed, and by
its own forward pass with one sequence at a time. The prompts are longer than its sliding window;
their beginning is computed once for both, and once for each. Then one prompt is exchanged, which
must not move the scores of its neighbour. If scores differ, or packing fails, the model is scored
plainly, which is slower, and is not trained on packed rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sm70lib.models import local, packed, plain
from sm70lib.models.request import Request
from sm70lib.study.params import StudyError

PACKED, PLAIN = "packed", "plain"  # how options are scored
# Nats a token, on average over the options. In 16 bits, rounding alone gives several hundredths;
# a window or a scale that is lost gives several nats.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.25}
# Nats a token that another neighbour may move; in 16 bits, experts round elsewhere beside it.
NEIGHBOUR = 0.02
PROMPTS, PREFIX = (24, 48), 40  # tokens of the prompts that are scored twice, and of their prefix
BEYOND = 24  # tokens by which the prefix is longer than a window


@dataclass(frozen=True)
class Proof:
    """What scoring twice showed.

    Attributes:
        way: PACKED or PLAIN.
        difference: Nats a token on average, with a prefix or without; None if packing failed.
        reason: Why the way is plain; "" if it is packed.
    """

    way: str
    difference: float | None
    reason: str = ""


def prove(model, longest: int) -> Proof:
    """Scores random prompts packed and plainly, and compares.

    Args:
        model: The model.
        longest: Tokens of the longest prompt that will be asked; windows beyond it do not matter.

    Returns:
        The way to score, and why.

    Raises:
        StudyError: Its plain scores are not numbers.
    """
    asked, prefix = _questions(model, longest)
    whole = [Request([*prefix, *request.context], request.options) for request in asked]

    def alone(requests: list[Request]) -> np.ndarray:
        return _per_token(requests, local.loglikelihoods(model, requests))

    def behind_prefix(_: list[Request]) -> np.ndarray:
        return _per_token(asked, local.loglikelihoods(model, asked, local.remember(model, prefix)))

    return _compared(model, whole, [alone, behind_prefix])


def prove_training(model, longest: int) -> Proof:
    """Reads two random sequences packed into one row, as TRL packs them, and plainly; compares.

    Args:
        model: The model.
        longest: Tokens of the longest row (`data_max_length`).

    Returns:
        Whether the model can be trained on packed rows, and why not.

    Raises:
        StudyError: Its plain scores are not numbers.
    """
    asked, prefix = _questions(model, longest)
    whole = [[*prefix, *request.context] for request in asked]
    rows = [Request(ids[:-1], [ids[-1:]]) for ids in whole]
    return _compared(model, rows, [lambda changed: _in_one_row(model, changed)])


def require_numbers(scores: np.ndarray, whose: str) -> None:
    """Refuses scores of options from which no choice follows.

    In float16, whose largest number is 65,504, a model's logits may become NaN, and numpy would
    choose the first NaN. Minus infinity is the score of an option that a model rules out.

    Args:
        scores: Log-likelihoods of options (nats).
        whose: Whose they are, with which the error begins.

    Raises:
        StudyError: One is NaN or plus infinity, or all are minus infinity.
    """
    if np.isnan(scores).any() or not np.isfinite(scores.max()):
        raise StudyError(
            f"{whose}: the model gives the options {scores.round(6).tolist()} nats, and each must "
            "be a number, or minus infinity where another option is possible; load the model in "
            'another type: set "dtype" in its config.json to "float32" or "bfloat16", or '
            "quant_compute_dtype to float32 if it is loaded in NF4"
        )


@torch.inference_mode()
def _in_one_row(model, rows: list[Request]) -> np.ndarray:
    """Log-likelihood (nats) of each row's only option, of one token."""
    whole = packed.enter(model)
    ids = [token for row in rows for token in row.context]
    positions = [place for row in rows for place in range(len(row.context))]
    ends = np.cumsum([len(row.context) for row in rows])
    bounds = torch.tensor([0, *ends], device=model.device, dtype=torch.int32)
    logits = whole(
        input_ids=torch.tensor([ids], device=model.device),
        position_ids=torch.tensor([positions], device=model.device),
        cu_seq_lens_q=bounds,
        use_cache=False,
    ).logits[0]
    logs = logits[torch.tensor(ends - 1, device=model.device)].float().log_softmax(-1)
    return np.array([logs[number, row.options[0][0]].item() for number, row in enumerate(rows)])


def _compared(model, asked: list[Request], ways: list[Callable]) -> Proof:
    """Compares what each packed way of scoring gives (nats a token) with the plain scores."""
    odd = _what_cannot_be_packed(model)
    if odd:
        return Proof(PLAIN, None, odd)
    right = _per_token(asked, plain.loglikelihoods(model, asked))
    require_numbers(right, f"{model.name_or_path}, asked random prompts")
    first, second = asked
    exchanged = [Request(first.context[::-1], first.options), second]
    try:
        scores = [score(asked) for score in ways]
        beside_another = ways[0](exchanged)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        packed.leave(model)
        if _lacks_memory(error):  # which says nothing of the model's code
            raise
        return Proof(PLAIN, None, f"its code does not pack: {_first_line(error)}")
    # numpy's maximum, as Python's passes over a NaN that does not come first
    worst = float(np.max([np.abs(values - right).mean() for values in scores]))
    own = slice(len(first.options), None)
    moved = float(np.abs(scores[0][own] - beside_another[own]).max())
    allowed = TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16])
    if worst <= allowed and moved <= NEIGHBOUR:
        return Proof(PACKED, worst)
    packed.leave(model)
    if moved > NEIGHBOUR:
        return Proof(PLAIN, worst, "packed, its prompts see each other")
    reason = f"packed, its scores are {worst:.1g} nats a token away, and {allowed:g} are allowed"
    return Proof(PLAIN, worst, reason)


def _lacks_memory(error: Exception) -> bool:
    """Whether memory ran out, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _what_cannot_be_packed(model) -> str:
    """Why a model cannot be packed, as far as it says so itself; "" if it does not."""
    whole = packed.leave(model)
    types = getattr(whole.config.get_text_config(), "layer_types", None) or []
    odd = sorted(set(types) - {"full_attention", "sliding_attention"})
    if odd:
        return f"its layers of type {', '.join(odd)} do not pack"
    # The flag has no public name (transformers 5.23); without it, a model has attention of its own.
    if not getattr(whole, "_supports_attention_backend", False):
        return "its attention does not go through transformers' interface"
    return ""


def _questions(model, longest: int) -> tuple[list[Request], list[int]]:
    """Two random requests, and a prefix for both that is longer than the window."""
    draw = np.random.default_rng(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]

    def ids(count: int) -> list[int]:
        return draw.integers(min(100, vocabulary // 2), vocabulary, max(1, count)).tolist()

    prefix = PREFIX
    window = window_of(model)
    if window and window < longest:
        prefix = max(PREFIX, window + BEYOND)
    room = longest - 4  # for the longest option
    lengths = [min(length, room // 2) for length in PROMPTS]
    asked = [Request(ids(length), [ids(1), ids(3), ids(4)]) for length in lengths]
    return asked, ids(min(prefix, room - lengths[-1]))


def window_of(model) -> int | None:
    """Tokens that the narrowest layer looks back; None if all see everything."""
    config = model.config.get_text_config()
    names = ("sliding_window", "attention_chunk_size")
    windows = [getattr(config, name, None) for name in names]
    return min((window for window in windows if window), default=None)


def _per_token(asked: list[Request], values: list[list[float]]) -> np.ndarray:
    tokens = [len(option) for request in asked for option in request.options]
    return np.array([value for row in values for value in row]) / tokens
