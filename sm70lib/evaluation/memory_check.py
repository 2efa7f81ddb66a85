"""Is there enough memory to score a model? The tokens of a batch, or what is lacking."""

from __future__ import annotations

from pathlib import Path

from sm70lib.sizes import budget_scoring
from sm70lib.steps import keys
from sm70lib.steps.steps import LEFT_OUT, write_json
from sm70lib.study import memory


def batch_tokens(which, p) -> int | None:
    """How many tokens a batch may have, given the memory here.

    Args:
        which: the model (candidates.Model).
        p: the study's parameters.

    Returns:
        At most `eval_batch_tokens`; None if not even a batch of one prompt fits.
    """
    available = memory.at_hand().gb
    tokens = budget_scoring.batch_tokens(
        which.source, p, which.quantised, _adapter(which), available, guess=False
    )
    if tokens and tokens < p.eval_batch_tokens:
        print(
            f"{which.name} is scored in batches of {tokens:,} tokens, as there is no memory for "
            f"eval_batch_tokens {p.eval_batch_tokens:,}"
        )
    return tokens


def memory_shortfall(which, p) -> dict:
    """The least memory that the model needs, and the memory here (GB)."""
    least = budget_scoring.scoring(
        which.source, p, which.quantised, _adapter(which), tokens=1, guess=False
    )
    available = memory.at_hand()
    return {
        "needed_gb": memory.rounded_up(least),
        "there_gb": round(available.gb, 3),
        "where": available.where,
    }


def _adapter(which) -> float:
    """Bytes of the model's adapter; 0 if it has none."""
    return budget_scoring.saved_adapter_bytes(which.adapter) if which.adapter else 0.0


def write(folder: Path, lacking: dict[str, dict]) -> None:
    """Records which models were left out, and prints them.

    Args:
        folder: the study's `predictions`.
        lacking: what `lack` gave, by the model's name.
    """
    if lacking:
        write_json(folder / LEFT_OUT, lacking)
    else:
        (folder / LEFT_OUT).unlink(missing_ok=True)
    for name, about in lacking.items():
        needed, available = memory.words(about["needed_gb"]), memory.words(about["there_gb"])
        print(
            f"{name} is not scored here: it needs {needed}, "
            f"and there are {available} in {about['where']}"
        )


def read(folder: Path) -> dict[str, dict]:
    """What `write` recorded; {} if no model was left out."""
    return keys.read(folder / LEFT_OUT)
