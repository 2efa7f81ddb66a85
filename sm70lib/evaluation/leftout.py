"""Whether there is memory to score a model: in batches of how many tokens, or what is lacking."""

from __future__ import annotations

from pathlib import Path

from sm70lib.models import budget_scoring
from sm70lib.study import keys, memory
from sm70lib.study.steps import LEFT_OUT, write_json


def batch_tokens(which, p) -> int | None:
    """Tokens of a batch for which there is memory to score `which` (candidates.Model) here.

    `eval_batch_tokens` at most; None where not even a batch of one prompt fits.
    """
    there = memory.at_hand().gb
    tokens = budget_scoring.batch_tokens(
        which.source, p, which.quantised, _adapter(which), there, guess=False
    )
    if tokens and tokens < p.eval_batch_tokens:
        print(
            f"{which.name} is scored in batches of {tokens:,} tokens, as there is no memory for "
            f"eval_batch_tokens {p.eval_batch_tokens:,}"
        )
    return tokens


def lack(which, p) -> dict:
    """What the model needs at least, and what there is (GB)."""
    least = budget_scoring.scoring(
        which.source, p, which.quantised, _adapter(which), tokens=1, guess=False
    )
    there = memory.at_hand()
    return {
        "needed_gb": memory.rounded_up(least),
        "there_gb": round(there.gb, 3),
        "where": there.where,
    }


def _adapter(which) -> float:
    return budget_scoring.saved_adapter_bytes(which.adapter) if which.adapter else 0.0


def write(folder: Path, lacking: dict[str, dict]) -> None:
    """Records, and says, which models were left out (`lack` by name)."""
    if lacking:
        write_json(folder / LEFT_OUT, lacking)
    else:
        (folder / LEFT_OUT).unlink(missing_ok=True)
    for name, about in lacking.items():
        print(
            f"{name} is not scored here: it needs {memory.words(about['needed_gb'])}, "
            "and there are "
            f"{memory.words(about['there_gb'])} in {about['where']}"
        )


def read(folder: Path) -> dict[str, dict]:
    """What `write` recorded; {} where nothing was left out."""
    return keys.read(folder / LEFT_OUT)
