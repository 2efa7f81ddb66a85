"""What is watched while a trainer trains: its metrics, and the notebook that waits for it."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from pathlib import Path

import psutil
from transformers import TrainerCallback

from sm70lib.study.params import StudyError

LOGGED = (
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "num_tokens",
    "rewards/margins",
    "rewards/accuracies",
)
ORPHANED = 3  # exit code of a trainer whose notebook has gone


class Metrics(TrainerCallback):
    """Appends every log record to `metrics.jsonl`, moves the progress `bar`, stops when a loss is no number."""

    def __init__(self, path: Path, bar):
        self.path, self.bar, self.start = path, bar, time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        record = {key: float(logs[key]) for key in LOGGED if key in logs}
        if not state.is_world_process_zero or not record.keys() & {"loss", "eval_loss"}:
            return
        record = {
            "step": state.global_step,
            "seconds": round(time.monotonic() - self.start, 1),
        } | record
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
        if not math.isfinite(record.get("loss", 0.0)):
            raise StudyError(
                f"the loss is {record['loss']} at step {state.global_step}: lower the learning rate; "
                "the last good checkpoint is kept"
            )


class Orphan(TrainerCallback):
    """Stops when the notebook that started the training has gone, and saves where one process can decide that."""

    def on_step_end(self, args, state, control, **kwargs):
        if notebook_gone() and args.world_size == 1:
            control.should_save = control.should_training_stop = True
        elif notebook_gone() and state.is_world_process_zero:
            sys.exit(ORPHANED)  # the launcher ends the others; the last checkpoint holds


def notebook_gone() -> bool:
    """Whether the notebook named in SM70_NOTEBOOK (host:process) ran on this host and runs no more."""
    host, _, process = os.environ.get("SM70_NOTEBOOK", "").partition(":")
    return host == socket.gethostname() and not psutil.pid_exists(int(process))
