"""The GPUs that a plan compares."""

from __future__ import annotations

import pandas as pd

from sm70lib.parameters.stages import STAGES, steps_of
from sm70lib.sizes.budget import advice, needed
from sm70lib.sizes.shapes import shape
from sm70lib.study import memory
from sm70lib.study.params import ROOT
from sm70lib.study.used import trains_all

# All goes once more through a reference, without gradients, which is a third of the work
READ_AGAIN = 4 / 3
# All weights get a gradient, of which an adapter's frozen base has none: a third of the work
WEIGHTS_TOO = 3 / 2


def cards() -> pd.DataFrame:
    """The GPUs of params/gpus.csv.

    Columns are gpu, memory_gb (10^9 bytes), tokens_per_second_70b (if published) and source.
    """
    return pd.read_csv(ROOT / "params/gpus.csv")


def hours(model, tokens: float, speed):
    """Hours to train a model on so many tokens, in proportion to a model of 70B.

    Args:
        model: Folder, hub name or configuration of the model.
        tokens: How many tokens it is trained on.
        speed: Tokens per second of a 70B: a number, or a column of them.

    Returns:
        Hours, as a number or a column like `speed`.
    """
    return tokens / (speed * 70e9 / shape(model).weights) / 3600


def tokens(p, kind: str, number: int | None = None) -> float:
    """Tokens of a stage with one seed, if every sequence is full.

    They are multiplied by what they cost beside a token of an adapter's training: a pair has two
    sequences, a reference reads all once more, and all weights may get a gradient.

    Args:
        p: The study's parameters.
        kind: A kind of stage, such as sft.
        number: The stage's number in `train_stages`, from 1, where rounds may differ in length.
    """
    steps = getattr(p, f"{kind}_steps") if number is None else steps_of(p, number)
    sequences = steps * getattr(p, f"{kind}_batch_size")
    answers = 2 if STAGES[kind].reads == "pairs" else 1
    full = sequences * p.data_max_length * answers * (WEIGHTS_TOO if trains_all(p) else 1)
    return full * READ_AGAIN if STAGES[kind].reference else full


def gpus(model, p, kind: str = "sft") -> pd.DataFrame:
    """A stage of the study on each GPU of params/gpus.csv.

    Hours are those of the stage on one card, if every sequence were full. They follow from the
    published speed of a 70B (`source`), and are empty where no speed is known.

    Args:
        model: Folder, hub name or configuration of the base.
        p: The study's parameters.
        kind: A kind of stage, such as sft.

    Returns:
        One row per GPU, with gpu, memory_gb, needed_gb (both 10^9 bytes), verdict, hours_at_most,
        dollars and source.
    """
    table = cards()
    hours_at_most = hours(model, tokens(p, kind), table["tokens_per_second_70b"])
    price = p.plan_dollars_per_hour or float("nan")
    return table[["gpu", "memory_gb"]].assign(
        needed_gb=round(needed(model, p, kind) / 1e9, 2),
        verdict=[advice(model, p, there * memory.GB, kind) for there in table["memory_gb"]],
        hours_at_most=hours_at_most.round(1),
        dollars=(hours_at_most * price).round(),
        source=table["source"],
    )
