"""The kinds of training stages, and their parameters: declared once, expanded to `sft_lr` etc."""

from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

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
    min_lr: Number = parameter(
        "learning rate at the end of a cosine", "share of the peak", before=0.0, ge=0, lt=1
    )
    warmup: Number = parameter("warm-up", "share of steps; from 1 on, steps", ge=0)
    weight_decay: Number = parameter("weight decay", ge=0, le=1)
    max_grad_norm: Number = parameter("gradient norm above which gradients are scaled down", gt=0)
    optimizer: Optimizer = parameter("optimiser")
    adam_beta2: Number = parameter(
        "how much AdamW keeps of its mean of squared gradients", before=0.999, gt=0, lt=1
    )
    adam_epsilon: Number = parameter("what AdamW adds to its divisor", before=1e-8, gt=0, le=1)


class Pretraining(Stage):
    """What continued pretraining has besides."""

    sources: Distinct[Source] = parameter(
        "sources of running text for continued pretraining, replay among them"
    )
    mix: dict[Source, Annotated[Number, Field(gt=0)]] = parameter(
        "proportion of the sources' tokens in a pass of {}; empty reads every source whole",
        before={},
    )
    near_duplicates: Literal["none", "report", "drop", "fail"] = parameter(
        "policy for texts that are nearly the same as an earlier one; none does not look for them",
        before="none",
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
    round_steps: list[Annotated[int, Field(ge=1)]] = parameter(
        "length of every round in turn; empty gives each the same steps",
        "optimiser steps",
        before=[],
    )
    batch_size: int = parameter("batch of an optimiser step", "pairs", ge=1)
    beta: Number = parameter("strength of the tie to the reference model", gt=0)
    flipped: bool = parameter(
        "exchange the better and the worse answers, as a control", before=False
    )


class Words(NamedTuple):
    """What a kind of stage is called.

    Attributes:
        stage: In a sentence, and in what is said of its parameters.
        short: In the table's name of a model that it leaves.
        done: What it does to a model, as a participle.
    """

    stage: str
    short: str
    done: str


class Kind(NamedTuple):
    """A kind of training stage. How it is trained is in `METHODS` of training/methods.py.

    Attributes:
        block: Its parameters.
        words: What it is called.
        reads: What it is trained on: `rows`, `text` or `pairs`; see READS.
        settings: The parameters that its trainer takes under the same name, besides those of Stage.
        reference: Whether the model is compared with a frozen copy of the one that the stage starts
            from. The plan counts its memory and its time.
    """

    block: type[Stage]
    words: Words
    reads: Literal["rows", "text", "pairs"]
    settings: tuple[str, ...]
    reference: bool = False


STAGES = {  # in the order in which a study may have them
    "cpt": Kind(
        Pretraining,
        Words("continued pretraining", "pretraining", "pretrained further"),
        "text",
        ("packing",),
    ),
    "sft": Kind(Tuning, Words("supervised tuning", "tuning", "tuned"), "rows", ("packing",)),
    "dpo": Kind(
        Preferences,
        Words("each preference round", "preferences", "aligned with preferences"),
        "pairs",
        ("beta",),
        reference=True,
    ),
}
# Folders that 01_data writes. Rows have held-out rows beside them; the others are split in 03.
READS = {
    "rows": ("data/train", "data/holdout"),
    "text": ("data/text",),
    "pairs": ("data/preferences",),
}
# The kinds of which a study may have several rounds
IN_ROUNDS = tuple(kind for kind in STAGES if "rounds" in STAGES[kind].block.model_fields)
if TYPE_CHECKING:  # a type checker cannot read the table
    StageName = str
else:
    StageName = Literal[tuple(STAGES)]


def expanded() -> dict[str, FieldInfo]:
    """The parameters of all stages by their full names, such as `sft_lr`."""
    fields = {}
    for kind, stage in STAGES.items():
        for name, shared in stage.block.model_fields.items():
            field = copy(shared)
            field.description = f"{shared.description}".format(stage.words.stage)
            fields[f"{kind}_{name}"] = field
    return fields


def for_every_kind(names: Iterable[str]) -> set[str]:
    """Adds to names of parameters the same parameters of the other kinds of stages.

    A notebook that declares `sft_lr` takes `lr` of a new kind too, without an edit. One that
    declares a setting of a trainer, such as `sft_packing`, takes the settings of every trainer.
    """
    given = set(names)
    all_names = expanded().keys()
    declared = {_part(name) for name in given & all_names}
    return given | {name for name in all_names if _part(name) in declared}


def _part(name: str) -> str:
    """The name without its kind of stage; `settings` for all that a trainer takes."""
    kind, _, own = name.partition("_")
    return "settings" if own in STAGES[kind].settings else own


def steps_of(p: Any, number: int) -> int:
    """Optimiser steps of a stage.

    Args:
        p: The study's parameters.
        number: The stage's number in `train_stages`, from 1.
    """
    kind = p.train_stages[number - 1]
    lengths = getattr(p, f"{kind}_round_steps", [])
    turn = p.train_stages[:number].count(kind)
    return lengths[turn - 1] if lengths else getattr(p, f"{kind}_steps")
