"""A stage's parameters in TRL's words.

Whatever TRL would choose by itself is given explicitly.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from datasets import Dataset
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import TrainingArguments

from sm70lib.models import loading
from sm70lib.parameters.stages import STAGES
from sm70lib.study.params import StudyError
from sm70lib.study.used import trains_all
from sm70lib.training.methods import METHODS


def config(p, how, stage: Path, evaluates: bool) -> TrainingArguments:
    """TRL's configuration of a stage.

    Args:
        p: The study's parameters.
        how: The stage, with its `kind` and `seed`.
        stage: Folder that the trainer writes to.
        evaluates: Whether there are held-out rows to evaluate on.

    Raises:
        StudyError: If the batch size cannot be divided among micro-batches and processes.
    """
    method = METHODS[how.kind]
    config_class = getattr(trl, method.config)
    settings = config_class(
        seed=how.seed,
        data_seed=how.seed,
        max_length=p.data_max_length,
        **batches(p, how.kind),
        **_optimisation(p, how.kind),
        **_computation(p),
        **_records(p, how.kind, stage, evaluates),
        **_own_settings(p, how.kind),
        **method.fixed,
    )
    if trains_all(p) and loading.sharded() and settings.bf16:
        settings.fsdp_plugin_args = {"mixed_precision_policy": precision(p)}
    return settings


def prepared(rows: Dataset, settings: TrainingArguments) -> Dataset:
    """Rows as TRL's own preparation would leave them: packed, if the stage packs its rows.

    That preparation is skipped (`METHODS`). It would look at every token in Python, to give text
    the labels that TRL's collator takes in their absence, and to cut rows that are short enough.

    Args:
        rows: Tokenised rows, none longer than `max_length`.
        settings: What `config` gave.
    """
    if not getattr(settings, "packing", False):
        return rows
    return trl.pack_dataset(rows, settings.max_length, settings.packing_strategy)


def precision(p) -> MixedPrecisionPolicy:
    """What FSDP2 does in 16 bits: all inside a layer, and not what is added up or handed on.

    By itself, accelerate 1.15 also adds up gradients and hands on losses in 16 bits, so that two
    losses which differ by a thousandth may be the same number.
    """
    wide = torch.float32
    return MixedPrecisionPolicy(getattr(torch, p.quant_compute_dtype), wide, wide)


def _of_kind(values: dict, kind: str) -> SimpleNamespace:
    """The parameters of one kind of stage, without the kind in front: `sft_lr` as `lr`."""
    front = f"{kind}_"
    own = {name: value for name, value in values.items() if name.startswith(front)}
    return SimpleNamespace(**{name.removeprefix(front): value for name, value in own.items()})


def batches(p, kind: str) -> dict:
    """How the batch of a kind of stage is divided among passes and processes.

    Raises:
        StudyError: If it cannot be divided evenly.
    """
    own = _of_kind(vars(p), kind)
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    accumulation, rest = divmod(own.batch_size, p.train_micro_batch_size * world_size)
    if rest or not accumulation:
        raise StudyError(
            f"{kind}_batch_size {own.batch_size} is not a multiple of train_micro_batch_size "
            f"{p.train_micro_batch_size} times {world_size} processes: change one of the two"
        )
    return {
        "per_device_train_batch_size": p.train_micro_batch_size,
        "per_device_eval_batch_size": p.train_micro_batch_size,
        "gradient_accumulation_steps": accumulation,
    }


def _optimisation(p, kind: str) -> dict:
    own = _of_kind(vars(p), kind)
    return {
        "max_steps": own.steps,
        "learning_rate": own.lr,
        **_schedule(own),
        "warmup_steps": round(own.warmup if own.warmup >= 1 else own.warmup * own.steps),
        "weight_decay": own.weight_decay,
        "max_grad_norm": own.max_grad_norm,
        "optim": own.optimizer,
        "adam_beta2": own.adam_beta2,
        "adam_epsilon": own.adam_epsilon,
    }


def _schedule(own: SimpleNamespace) -> dict:
    if own.min_lr == 0:
        return {"lr_scheduler_type": own.scheduler}
    return {
        "lr_scheduler_type": f"{own.scheduler}_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": own.min_lr},
    }


def _computation(p) -> dict:
    return {
        "bf16": p.quant_compute_dtype == "bfloat16",
        "gradient_checkpointing": p.train_gradient_checkpointing,
        "ddp_find_unused_parameters": False,
        "use_cpu": loading.device().type == "cpu",
    }


def _own_settings(p, kind: str) -> dict:
    """What this trainer takes besides, under the names that the parameters have."""
    own = _of_kind(vars(p), kind)
    return {name: getattr(own, name) for name in STAGES[kind].settings}


def _logging_steps(steps: int, save_steps: int) -> int:
    """How many steps a record of the metrics tells of: a sixtieth of all or somewhat fewer.

    It divides the distance of checkpoints. A record is a mean, and a resumed run would take it over
    the steps behind the checkpoint alone.
    """
    most = max(1, min(steps // 60, save_steps))
    return max(number for number in range(1, most + 1) if save_steps % number == 0)


def _records(p, kind: str, stage: Path, evaluates: bool) -> dict:
    """What the trainer logs, evaluates and saves, and how often."""
    own = _of_kind(vars(p), kind)
    return {
        "output_dir": str(stage),
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": max(1, own.steps // 6),
        "logging_steps": _logging_steps(own.steps, p.train_save_steps),
        "logging_nan_inf_filter": False,  # else a loss of NaN is logged as the mean of the others
        "save_strategy": "steps",
        "save_steps": p.train_save_steps,
        "save_total_limit": 2,
        "report_to": p.train_report_to,
        "project": "sm70",  # of trackio, and of no other tracker
        "run_name": f"{p.study} {stage.name}",
        "disable_tqdm": True,
    }


def stages_from(p, kind: str) -> list[str]:
    """The kinds of the stages from the first of this kind on, which stand in a fixed order."""
    return p.train_stages[p.train_stages.index(kind) :]


def require_batches(p, kind: str) -> None:
    """Raises StudyError where the batch of this stage or of a coming one cannot be divided.

    How many processes `torchrun --nproc-per-node gpu` starts is known here first. A coming stage
    would find out after this one has trained.
    """
    for each in stages_from(p, kind):
        batches(p, each)
