"""GPUs at hand, and those that a plan compares."""

from __future__ import annotations

import pandas as pd

from sm70lib.models.budget import advice, needed
from sm70lib.models.shapes import shape
from sm70lib.study import memory
from sm70lib.study.params import ROOT

# ---- cards ---------------------------------------------------------------------------------


def cards() -> pd.DataFrame:
    """The GPUs of params/gpus.csv: gpu, memory_gb, tokens_per_second_70b (if published), source."""
    return pd.read_csv(ROOT / "params/gpus.csv")


def hours(model, tokens: float, speed):
    """Hours for so many tokens at the `speed` of a 70B, times 70B over this model's weights."""
    return tokens / (speed * 70e9 / shape(model).weights) / 3600


def gpus(model, p) -> pd.DataFrame:
    """The study on each GPU of params/gpus.csv: needed_gb (10^9), verdict, hours at most, dollars.

    Hours are those of supervised tuning with every sequence full, on one card, at the published
    speed of a 70B (`source`); empty where no speed is known.
    """
    table = cards()
    most = hours(
        model, p.sft_steps * p.sft_batch_size * p.data_max_length, table["tokens_per_second_70b"]
    )
    return table[["gpu", "memory_gb"]].assign(
        needed_gb=round(needed(model, p) / 1e9, 2),
        verdict=[advice(model, p, there * memory.GB) for there in table["memory_gb"]],
        hours_at_most=most.round(1),
        dollars=(most * (p.plan_dollars_per_hour or float("nan"))).round(),
        source=table["source"],
    )
