"""The loss on each held-out row that belongs to a document, before tuning and after it.

The trainer's own curve is one number for all held-out rows. A bound over documents needs the loss
of each.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from sm70lib.steps.steps import write_text

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
    losses, targets = zip(*(_loss(trainer.model, row) for row in rows))
    table = table.assign(**{"targets": targets, column: losses})
    write_text(path, table.to_csv(index=False))


@torch.no_grad()
def _loss(model, row: dict) -> tuple[float, int]:
    """The summed loss of one row (nats), and the number of its targets."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    ids = torch.tensor([row["input_ids"]], device=device)
    labels = torch.tensor(row["labels"][1:], device=device)
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    model.train(was_training)
    return loss.item(), int((labels != -100).sum())
