"""What is watched during training: its metrics, held-out documents, and the notebook that waits.

The trainer's own curve is one number for all held-out rows. A bound over documents needs the loss
of each row, before tuning and after it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback

from sm70lib.corpus.tokens import IGNORED
from sm70lib.records import children
from sm70lib.steps.steps import write_csv
from sm70lib.steps.trained import LOGGED
from sm70lib.study.params import StudyError

TOGETHER = 8  # rows of a forward pass: a base in four bits is decoded anew in each
BEFORE, AFTER = "loss_before", "loss_after"  # nats, summed over a row's targets


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

    A single process logs and saves a checkpoint first. One of several processes cannot decide that
    for all.
    """

    def on_step_end(self, args, state, control, **kwargs):
        if not children.notebook_gone():
            return
        if args.world_size == 1:
            control.should_log = control.should_save = control.should_training_stop = True
        elif state.is_world_process_zero:
            sys.exit(children.ORPHANED)  # the launcher ends the others; the last checkpoint holds


def measure_documents(trainer, documents: Path | None, stage: Path, column: str) -> None:
    """Writes the loss on each held-out row of a document into `stage/holdout.csv`.

    Losses that are there already stay.

    Args:
        trainer: The trainer of the stage; its `eval_dataset` has the held-out rows.
        documents: `data/holdout.csv`: place and document of each row. None for a stage whose rows
            these are not. Nothing is done without it.
        stage: The stage's folder.
        column: BEFORE or AFTER.
    """
    path = stage / "holdout.csv"
    if documents is None or not documents.exists() or not trainer.is_world_process_zero():
        return
    table = pd.read_csv(path if path.exists() else documents)
    if column in table:  # a killed run measured it before its first step
        return
    rows = [trainer.eval_dataset[place] for place in table["place"].tolist()]
    found = []
    for start in range(0, len(rows), TOGETHER):
        found += _losses(trainer.model, rows[start : start + TOGETHER])
    table[column], table["targets"] = zip(*found)
    write_csv(path, table)


@torch.no_grad()
def _losses(model, rows: list[dict]) -> list[tuple[float, int]]:
    """The summed loss (nats) and the number of targets of each row."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    ids, labels = _padded(rows, "input_ids", 0), _padded(rows, "labels", IGNORED)
    seen = _padded([{"ones": [1] * len(row["labels"])} for row in rows], "ones", 0)
    logits = model(input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False).logits
    model.train(was_training)
    found = []
    for scores, targets in zip(logits[:, :-1], labels[:, 1:].to(device)):
        counted = targets != IGNORED
        loss = cross_entropy(scores[counted].float(), targets[counted], reduction="sum")
        found.append((loss.item(), int(counted.sum())))
    return found


def _padded(rows: list[dict], name: str, filler: int) -> torch.Tensor:
    """A column of rows (rows, longest), filled up on the right."""
    return pad_sequence([torch.tensor(row[name]) for row in rows], True, filler)
