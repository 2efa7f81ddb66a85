"""Checks the scores: a few items are scored again, one option at a time."""

from __future__ import annotations

import numpy as np

from sm70lib.asking.fitting import usable
from sm70lib.asking.prompts import Prompt, Prompts
from sm70lib.asking.runs import Run
from sm70lib.evaluation.batches import limit, of_item
from sm70lib.models.backend import Backend
from sm70lib.steps.steps import progress

COUNT = 16  # at most so many items; 64 took three of a model's ten minutes
PART = 40  # at most one item in so many: a check must not cost more than what it checks

Scored = tuple[Run, Prompt, dict]  # what was asked, and its line


def rescore(backend: Backend, written: list[tuple[Prompts, list[dict]]], title: str = "") -> dict:
    """Scores some items again, and compares them with their scores in batches.

    The items are spread over the runs. The longest come first.

    Args:
        backend: who scored them.
        written: prompts and lines of every run that is scored by likelihood.
        title: what the progress is called.

    Returns:
        How many items were scored again, the largest difference of a log-likelihood (nats), how
        many choices flipped, and how the model is scored.
    """
    again = sorted(_spread(written), key=lambda scored: -len(scored[1].text))
    worst, flips = 0.0, 0
    with progress(len(again), "item", f"{title} scored again") as bar:
        for run, prompt, line in again:
            alone = _alone(backend, run, prompt)
            differences = [abs(a - b) for a, b in zip(alone, line["loglikelihoods"])]
            worst = max(worst, *differences)
            flips += int(np.argmax(alone)) != line["choice"]
            bar.update()
    found: dict[str, float | str] = {
        "items": len(again),
        "largest_difference_nats": worst,
        "flips": flips,
    }
    if again and backend.remark:
        found["scored"] = backend.remark
    return found


def _spread(written: list[tuple[Prompts, list[dict]]]) -> list[Scored]:
    """COUNT items or fewer, at equal distances in every run."""
    total = sum(len(lines) for _, lines in written)
    count = min(COUNT, max(1, total // PART))
    picked = []
    for number, (prompts, lines) in enumerate(written):
        run = prompts.run
        numbers = {(run.items[place].id, seed): at for at, (place, seed) in enumerate(prompts.keys)}
        one_more = number < count % len(written)
        share = count // len(written) + one_more
        step = max(1, len(lines) // max(1, share))
        for line in lines[::step][:share]:
            picked.append((run, prompts[numbers[line["item_id"], line["seed"]]], line))
    return picked


def _alone(backend: Backend, run: Run, prompt: Prompt) -> list[float]:
    """The log-likelihood of every option (nats), by itself."""
    requests = usable(prompt, run.protocol, backend.tokenizer, limit(backend, run), None)
    return of_item(requests, backend.plainly(requests), run.protocol)
