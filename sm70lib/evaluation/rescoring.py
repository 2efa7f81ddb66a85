"""Checks the batches: some items are scored again, alone and option by option."""

from __future__ import annotations

import numpy as np

from sm70lib.asking.asking import Prompt, Prompts
from sm70lib.asking.fitting import usable
from sm70lib.asking.runs import Run
from sm70lib.evaluation.batches import limit
from sm70lib.models import local
from sm70lib.models.request import Request

COUNT = 64  # at most so many items
PART = 40  # at most one item in so many: a check must not cost more than what it checks


def rescore(loaded, tokenizer, written: dict[Run, list[dict]], chat: bool = False) -> dict:
    """Scores some items again, alone, and compares them with their scores in batches.

    The items are spread over the runs.

    Args:
        loaded: the model that scored them.
        tokenizer: its tokenizer.
        written: the lines of every run that is scored by likelihood.
        chat: whether the model was asked in its chat template.

    Returns:
        How many items were scored again, the largest difference of a log-likelihood (nats), and
        how many choices flipped.
    """
    total = sum(len(lines) for lines in written.values())
    count = min(COUNT, max(1, total // PART))
    worst, flips, n = 0.0, 0, 0
    for number, (run, lines) in enumerate(written.items()):
        prompts = Prompts(run, tokenizer, chat)
        numbers = {(run.items[place].id, seed): at for at, (place, seed) in enumerate(prompts.keys)}
        one_more = number < count % len(written)
        share = count // len(written) + one_more
        for line in _spread(lines, share):
            prompt = prompts[numbers[line["item_id"], line["seed"]]]
            alone = _alone(loaded, tokenizer, run, prompt)
            differences = [abs(a - b) for a, b in zip(alone, line["loglikelihoods"])]
            worst = max(worst, *differences)
            flips += int(np.argmax(alone)) != line["choice"]
            n += 1
    return {"items": n, "largest_difference_nats": worst, "flips": flips}


def _spread(lines: list[dict], count: int) -> list[dict]:
    """At most `count` lines at equal distances."""
    step = max(1, len(lines) // max(1, count))
    return lines[::step][:count]


def _alone(loaded, tokenizer, run: Run, prompt: Prompt) -> list[float]:
    """The log-likelihood of every option (nats), each in a pass of its own."""
    requests = usable(prompt, run.protocol, tokenizer, limit(loaded, run), None)
    return [
        local.loglikelihoods(loaded, [Request(request.context, [option])])[0][0]
        for request in requests
        for option in request.options
    ]
