"""A check of the batches: some items are scored again, alone and option by option."""

from __future__ import annotations

import numpy as np

from sm70lib.evaluation.asking import Prompts
from sm70lib.evaluation.batches import limit, usable
from sm70lib.evaluation.runs import Run
from sm70lib.models import local
from sm70lib.models.local import Request

COUNT = 64  # items at most
PART = 40  # one in so many at most: a check shall not cost more than what it checks


def rescore(loaded, tokenizer, written: dict[Run, list[dict]], chat: bool = False) -> dict:
    """Scores items alone that were scored in batches, spread over the runs.

    Args:
        loaded: the model that scored them.
        tokenizer: its tokenizer.
        written: the lines of every run that is scored by likelihood.
        chat: whether the model was asked in its chat template.

    Returns:
        How many items were scored again, the largest difference of a log-likelihood (nats), and
        how many choices flipped.
    """
    count = min(COUNT, max(1, sum(map(len, written.values())) // PART))
    worst, flips, n = 0.0, 0, 0
    for number, (run, lines) in enumerate(written.items()):
        prompts = Prompts(run, tokenizer, chat)
        numbers = {(run.items[place].id, seed): at for at, (place, seed) in enumerate(prompts.keys)}
        share = count // len(written) + (number < count % len(written))
        for line in lines[:: max(1, len(lines) // max(1, share))][:share]:
            prompt = prompts[numbers[line["item_id"], line["seed"]]]
            alone = _alone(loaded, tokenizer, run, prompt)
            worst = max(worst, *(abs(a - b) for a, b in zip(alone, line["loglikelihoods"])))
            flips += int(np.argmax(alone)) != line["choice"]
            n += 1
    return {"items": n, "largest_difference_nats": worst, "flips": flips}


def _alone(loaded, tokenizer, run: Run, prompt) -> list[float]:
    """The log-likelihood of every option, each in a pass of its own."""
    requests = usable(prompt, run.protocol, tokenizer, limit(loaded, run), None)
    return [
        local.loglikelihoods(loaded, [Request(request.context, [option])])[0][0]
        for request in requests
        for option in request.options
    ]
