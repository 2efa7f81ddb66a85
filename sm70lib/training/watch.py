"""What is watched during training: its metrics, and the notebook that waits for it."""

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

from sm70lib.steps.trained import LOGGED
from sm70lib.study.params import StudyError

ORPHANED = 3  # exit code of a trainer whose notebook has gone


class Metrics(TrainerCallback):
    """Appends every log record to a file and moves a progress bar.

    Stops the training with a StudyError when a loss is NaN or infinite.

    Args:
        path: The file, one JSON record to a line.
        bar: The bar, which counts steps.
    """

    def __init__(self, path: Path, bar):
        self.path, self.bar = path, bar
        self.start = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        logged = {key: float(logs[key]) for key in LOGGED if key in logs}
        if not state.is_world_process_zero or not logged.keys() & {"loss", "eval_loss"}:
            return
        seconds = round(time.monotonic() - self.start, 1)
        record = {"step": state.global_step, "seconds": seconds, **logged}
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
        if not math.isfinite(record.get("loss", 0.0)):
            raise StudyError(
                f"the loss is {record['loss']} at step {state.global_step}: lower the learning "
                "rate; the last good checkpoint is kept"
            )


class Orphan(TrainerCallback):
    """Stops when the notebook that started the training has gone.

    A single process saves a checkpoint first. One of several processes cannot decide that for all.
    """

    def on_step_end(self, args, state, control, **kwargs):
        if not notebook_gone():
            return
        if args.world_size == 1:
            control.should_save = control.should_training_stop = True
        elif state.is_world_process_zero:
            sys.exit(ORPHANED)  # the launcher ends the others; the last checkpoint holds


def notebook_gone() -> bool:
    """Whether the notebook named in SM70_NOTEBOOK (host:process) was on this host and has ended."""
    host, _, process = os.environ.get("SM70_NOTEBOOK", "").partition(":")
    return host == socket.gethostname() and not psutil.pid_exists(int(process))
