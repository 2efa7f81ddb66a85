"""Rules on launchers, and on what is trained, in which type, by which FSDP and at which rate."""

from collections.abc import Callable
from typing import Any

from sm70lib.parameters import launchers
from sm70lib.parameters.stages import IN_ROUNDS, STAGES

OF_TRAINING: tuple[tuple[str, Callable[..., Any], str], ...] = (  # see `rules.RULES`
    *(
        (
            f"{what}_launcher",
            launchers.runs_a_module,
            f"is none of {', '.join(launchers.PROGRAMS)} with options alone; it may name no other "
            "program, script or module",
        )
        for what in ("train", "eval")
    ),
    *(
        (
            f"{what}_launcher",
            launchers.finds_its_file,
            "names a --config_file that is not there (a relative path starts at the repository): "
            "give a file that is, such as params/accelerate/ddp.yml",
        )
        for what in ("train", "eval")
    ),
    (
        "eval_launcher",
        lambda launcher: launchers.fsdp_version(launcher) is None,
        "asks for FSDP, by which only training shares a model; in scoring, every process would "
        "hold all of it, in RAM or on the first GPU: give python, or torchrun --nproc-per-node "
        "and the number of GPUs",
    ),
    *(
        (
            f"{kind}_warmup {kind}_steps",
            lambda warmup, steps: warmup < 1 or warmup <= steps,
            "is more steps than",
        )
        for kind in STAGES
        if kind not in IN_ROUNDS
    ),
    *(
        (
            f"{kind}_warmup {kind}_steps {kind}_round_steps",
            lambda warmup, steps, lengths: warmup < 1 or warmup <= steps or lengths,
            "is more steps than",
        )
        for kind in IN_ROUNDS
    ),
    *(
        (
            f"{kind}_warmup {kind}_round_steps",
            lambda warmup, lengths: warmup < 1 or all(warmup <= length for length in lengths),
            "is more steps than a round of",
        )
        for kind in IN_ROUNDS
    ),
    *(
        (
            f"{kind}_min_lr {kind}_scheduler",
            lambda least, shape: least == 0 or shape == "cosine",
            "is where a cosine ends; it must be 0 with",
        )
        for kind in STAGES
    ),
    (
        "train_parameters quant_type",
        lambda what, quantised: what == "adapter" or quantised == "none",
        "trains all weights, and weights in four bits cannot be trained: give none instead of",
    ),
    (
        "train_parameters train_merge",
        lambda what, into: what == "adapter" or not into,
        "leaves whole models and no adapter that could be merged: give [] instead of",
    ),
    (
        "full_dtype quant_compute_dtype train_parameters",
        lambda dtype, computed, what: (what, dtype, computed) != ("full", "bf16", "float32"),
        "has fewer bits than",
    ),
    (
        "train_launcher quant_type",
        lambda launcher, quantised: quantised == "none" or launchers.fsdp_version(launcher) != 2,
        "asks for fsdp_version 2, by which every GPU would hold the whole base in four bits: give "
        "fsdp_version 1 (params/accelerate/fsdp-qlora.yml) with",
    ),
    (
        "full_dtype train_launcher",
        lambda dtype, launcher: dtype == "fp32" or launchers.fsdp_version(launcher) is None,
        "is not what FSDP trains, which turns all weights to 32 bits: give fp32 with",
    ),
    (
        "train_launcher train_parameters",
        lambda launcher, what: what == "adapter" or launchers.fsdp_version(launcher) != 1,
        "asks for fsdp_version 1, which was not tried with all weights: give fsdp_version 2 "
        "(params/accelerate/fsdp2-full.yml) with",
    ),
)
