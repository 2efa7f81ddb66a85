"""Scores sixty invented questions in a process of its own, so that a test can kill it."""

import time
from pathlib import Path

from sm70lib.evaluation import one_run
from sm70lib.models import loading, local
from sm70lib.models.backend import Local
from sm70lib.serving.served import Served
from sm70lib.study.others import Server
from tests.asked import run_of


def score(base: str, path: Path, pause: float) -> None:
    """Scores with the model in `base` into `path`, and rests `pause` seconds before each batch."""
    scored = local.loglikelihoods

    def slowly(*given):
        time.sleep(pause)
        return scored(*given)

    local.loglikelihoods = slowly
    loaded = loading.load(base), loading.load_tokenizer(base)
    one_run.evaluate(Local(*loaded), run_of(60), path, model_digest="m", batch_tokens=300)


def score_served(url: str, tokenizer: str, path: Path, pause: float) -> None:
    """The same with the model m of a server, whose tokenizer is in a folder."""
    asked = Served.loglikelihoods

    def slowly(*given):
        time.sleep(pause)
        return asked(*given)

    Served.loglikelihoods = slowly
    served = Served("m", Server(url, "m"), loading.load_tokenizer(tokenizer))
    one_run.evaluate(served, run_of(60), path, model_digest="m", batch_tokens=300)
