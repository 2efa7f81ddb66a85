"""Checkpoints with a seal: a half-written or damaged one is never resumed from."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import torch
from transformers import TrainerCallback

from sm70lib.study.params import StudyError
from sm70lib.study.steps import digest, write_json

SEAL = "sealed.json"  # digests of a checkpoint's files: what has none was cut short


class Seal(TrainerCallback):
    """Seals a checkpoint once it is whole; one with a weight that is no number is never sealed."""

    def on_save(self, args, state, control, model=None, **kwargs):
        if not state.is_world_process_zero:
            return
        if not all(
            torch.isfinite(weight).all() for weight in model.parameters() if weight.requires_grad
        ):
            raise StudyError(
                f"the adapter holds a weight that is no number at step {state.global_step}: lower the "
                "learning rate; the last good checkpoint is kept"
            )
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_json(checkpoint / SEAL, {path.name: digest(path) for path in _sealed(checkpoint)})


def _sealed(checkpoint: Path) -> list[Path]:
    """All but the random states: every process writes one of its own, in its own time."""
    return [
        path
        for path in sorted(checkpoint.iterdir())
        if path.name != SEAL and not path.name.startswith("rng")
    ]


def last_checkpoint(stage: Path) -> Path | None:
    """The newest checkpoint whose seal holds; one that a kill or a full disk cut short is removed."""
    for checkpoint in sorted(
        stage.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True
    ):
        with suppress(OSError, ValueError):
            if json.loads((checkpoint / SEAL).read_text()) == {
                p.name: digest(p) for p in _sealed(checkpoint)
            }:
                return checkpoint
        shutil.rmtree(checkpoint)
    return None
