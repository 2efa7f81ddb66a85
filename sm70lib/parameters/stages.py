"""The parameters of a training stage, declared once and expanded to `cpt_`, `sft_` and `dpo_`."""

from copy import copy
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from sm70lib.parameters.values import Distinct, Number, Source, parameter

Optimizer = Literal[
    "adamw_torch", "paged_adamw_32bit", "paged_adamw_8bit", "adamw_bnb_8bit", "rmsprop"
]
Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup"]


class Stage(BaseModel):
    """What every stage has; `{}` stands for what the stage is called in words."""

    steps: int = parameter("length of {}", "optimiser steps", ge=1)
    batch_size: int = parameter("batch of an optimiser step", "sequences", ge=1)
    lr: Number = parameter("peak learning rate", gt=0, le=1)
    scheduler: Scheduler = parameter("shape of the learning rate")
    warmup: Number = parameter("warm-up", "share of steps", ge=0, lt=1)
    weight_decay: Number = parameter("weight decay", ge=0, le=1)
    max_grad_norm: Number = parameter("gradient norm above which gradients are scaled down", gt=0)
    optimizer: Optimizer = parameter("optimiser")


class Pretraining(Stage):
    """What continued pretraining has besides."""

    sources: Distinct[Source] = parameter(
        "sources of running text for continued pretraining, replay among them"
    )
    packing: bool = parameter("put several texts into one sequence")


class Tuning(Stage):
    """What supervised tuning has besides; its sources are `data_sources`."""

    loss: Literal["response", "all"] = parameter("tokens that the loss counts")
    packing: bool = parameter("put several rows into one sequence")


class Preferences(Stage):
    """What a round of preferences has besides."""

    sources: Distinct[Source] = parameter("sources of preferences")
    rounds: dict[Source, Annotated[int, Field(ge=1)]] = parameter(
        "the one dpo round that a source is for", "round"
    )
    batch_size: int = parameter("batch of an optimiser step", "pairs", ge=1)
    beta: Number = parameter("strength of the tie to the reference model", gt=0)


STAGES: dict[str, tuple[type[Stage], str]] = {  # by kind: its block, and what it is called
    "cpt": (Pretraining, "continued pretraining"),
    "sft": (Tuning, "supervised tuning"),
    "dpo": (Preferences, "each preference round"),
}


def expanded() -> dict[str, FieldInfo]:
    """The parameters of all stages by their full names, such as `sft_lr`."""
    fields = {}
    for kind, (stage, called) in STAGES.items():
        for name, shared in stage.model_fields.items():
            field = copy(shared)
            field.description = f"{shared.description}".format(called)
            fields[f"{kind}_{name}"] = field
    return fields
