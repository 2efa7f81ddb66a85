"""Sealed checkpoints: training never resumes from a half-written or damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from sm70lib.steps.steps import digest, write_json
from sm70lib.study.params import StudyError
from sm70lib.training.launch import metrics

SEAL = "sealed.json"  # digests of a checkpoint's files; a checkpoint without it was cut short


class Seal(TrainerCallback):
    """Seals a checkpoint once all of it is written.

    Raises StudyError instead if a trainable weight is NaN or infinite.
    """

    def on_save(self, args, state, control, model=None, **kwargs):
        finite = all(torch.isfinite(weight).all() for weight in own_weights(model))
        spoilt = torch.tensor(float(not finite), device=PartialState().device)
        if reduce(spoilt, reduction="sum"):  # in any process
            raise StudyError(
                f"a trained weight is no number at step {state.global_step}: lower the learning "
                "rate; the last good checkpoint is kept"
            )
        if not state.is_world_process_zero:
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_json(checkpoint / SEAL, _digests(checkpoint))


@torch.no_grad()
def own_weights(model) -> Iterator[torch.Tensor]:
    """The trained weights of a model, or the pieces of them that this process holds."""
    for weight in model.parameters():
        if weight.requires_grad:
            yield weight.to_local() if isinstance(weight, DTensor) else weight


def _digests(checkpoint: Path) -> dict[str, str]:
    """Digests of a checkpoint's files, by name.

    Random states are left out: every process writes its own, at its own time.
    """
    return {
        path.name: digest(path)
        for path in sorted(checkpoint.iterdir())
        if path.name != SEAL and not path.name.startswith("rng")
    }


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def last_checkpoint(stage: Path) -> Path | None:
    """The newest checkpoint whose seal holds; None without one."""
    for checkpoint in sorted(stage.glob("checkpoint-*"), key=_step, reverse=True):
        with suppress(OSError, ValueError):
            sealed = json.loads((checkpoint / SEAL).read_text())
            if sealed == _digests(checkpoint):
                return checkpoint
    return None


def forget_after(stage: Path, checkpoint: Path | None) -> None:
    """Drops what came after a checkpoint, because it will be trained again.

    That is newer checkpoints, which a kill or a full disk cut short, and the metrics of later
    steps.
    """
    step = _step(checkpoint) if checkpoint else -1  # the first record is that of step 0
    for newer in stage.glob("checkpoint-*"):
        if _step(newer) > step:
            shutil.rmtree(newer)
    rows = metrics(stage)
    kept = rows[rows["step"] <= step] if len(rows) else rows
    lines = [json.dumps(row.dropna().to_dict()) + "\n" for _, row in kept.iterrows()]
    (stage / "metrics.jsonl").write_text("".join(lines))
