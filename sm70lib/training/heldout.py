"""The loss on each held-out row that belongs to a document, before tuning and after it.

The trainer's own curve is one number for all held-out rows. A bound over documents needs the loss
of each.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from sm70lib.corpus.tokens import IGNORED
from sm70lib.steps.steps import write_csv

TOGETHER = 8  # rows of a forward pass: a base in four bits is decoded anew in each
BEFORE, AFTER = "loss_before", "loss_after"  # nats, summed over a row's targets


def measure(trainer, documents: Path, stage: Path, column: str) -> None:
    """Writes the losses into `stage/holdout.csv`, where they are not there yet.

    Args:
        trainer: The trainer of the stage; its `eval_dataset` has the held-out rows.
        documents: `data/holdout.csv`: place and document of each row; without it nothing is done.
        stage: The stage's folder.
        column: BEFORE or AFTER.
    """
    path = stage / "holdout.csv"
    if not documents.exists() or not trainer.is_world_process_zero():
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
