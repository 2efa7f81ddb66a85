"""Checks the scores: some items are scored again, plainly, by the model's own forward pass."""

from __future__ import annotations

import numpy as np

from sm70lib.asking.asking import Prompt, Prompts
from sm70lib.asking.fitting import usable
from sm70lib.asking.runs import Run
from sm70lib.evaluation.batches import limit
from sm70lib.models import plain
from sm70lib.models.backend import Local
from sm70lib.models.proof import PLAIN

COUNT = 64  # at most so many items
PART = 40  # at most one item in so many: a check must not cost more than what it checks


def rescore(backend: Local, written: list[tuple[Prompts, list[dict]]]) -> dict:
    """Scores some items again, plainly, and compares them with their scores in batches.

    The items are spread over the runs.

    Args:
        backend: the model that scored them.
        written: prompts and lines of every run that is scored by likelihood.

    Returns:
        How many items were scored again, the largest difference of a log-likelihood (nats), how
        many choices flipped, and how the model is scored.
    """
    total = sum(len(lines) for _, lines in written)
    count = min(COUNT, max(1, total // PART))
    worst, flips, n = 0.0, 0, 0
    for number, (prompts, lines) in enumerate(written):
        run = prompts.run
        numbers = {(run.items[place].id, seed): at for at, (place, seed) in enumerate(prompts.keys)}
        one_more = number < count % len(written)
        share = count // len(written) + one_more
        for line in _spread(lines, share):
            prompt = prompts[numbers[line["item_id"], line["seed"]]]
            alone = _alone(backend, run, prompt)
            differences = [abs(a - b) for a, b in zip(alone, line["loglikelihoods"])]
            worst = max(worst, *differences)
            flips += int(np.argmax(alone)) != line["choice"]
            n += 1
    found: dict[str, float | str] = {"items": n, "largest_difference_nats": worst, "flips": flips}
    if backend.way == PLAIN:
        found["scored"] = f"plainly, as {backend.proof.reason}"
    return found


def _spread(lines: list[dict], count: int) -> list[dict]:
    """At most `count` lines at equal distances."""
    step = max(1, len(lines) // max(1, count))
    return lines[::step][:count]


def _alone(backend: Local, run: Run, prompt: Prompt) -> list[float]:
    """The log-likelihood of every option (nats), without packing."""
    requests = usable(prompt, run.protocol, backend.tokenizer, limit(backend, run), None)
    return [value for values in plain.loglikelihoods(backend.model, requests) for value in values]
