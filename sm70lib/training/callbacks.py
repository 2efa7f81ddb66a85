"""What the trainer does beside training: metrics, sealed checkpoints, first-step checks, an eye on the notebook."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow.compute as pc
import torch
from transformers import TrainerCallback
from trl import DPOTrainer

from sm70lib.study.params import StudyError
from sm70lib.study.steps import digest, write_json

LOGGED = ("loss", "eval_loss", "learning_rate", "grad_norm", "num_tokens", "rewards/margins", "rewards/accuracies")
ORPHANED = 3  # exit code of a trainer whose notebook has gone
SEAL = "sealed.json"  # digests of a checkpoint's files: what has none was cut short


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
        record = {"step": state.global_step, "seconds": round(time.monotonic() - self.start, 1)} | record
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
        if not math.isfinite(record.get("loss", 0.0)):
            raise StudyError(f"the loss is {record['loss']} at step {state.global_step}: lower the learning rate; "
                             "the last good checkpoint is kept")


class Orphan(TrainerCallback):
    """Stops when the notebook that started the training has gone, and saves where one process can decide that."""

    def on_step_end(self, args, state, control, **kwargs):
        if notebook_gone() and args.world_size == 1:
            control.should_save = control.should_training_stop = True
        elif notebook_gone() and state.is_world_process_zero:
            sys.exit(ORPHANED)  # the launcher ends the others; the last checkpoint holds


class PairTrainer(DPOTrainer):
    """DPO on pairs that `prompts` has tokenised: TRL would tokenise text again, with other BOS and seams."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


class Seal(TrainerCallback):
    """Seals a checkpoint once it is whole; one with a weight that is no number is never sealed."""

    def on_save(self, args, state, control, model=None, **kwargs):
        if not state.is_world_process_zero:
            return
        if not all(torch.isfinite(weight).all() for weight in model.parameters() if weight.requires_grad):
            raise StudyError(f"the adapter holds a weight that is no number at step {state.global_step}: lower the "
                             "learning rate; the last good checkpoint is kept")
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_json(checkpoint / SEAL, {path.name: digest(path) for path in _sealed(checkpoint)})


def _sealed(checkpoint: Path) -> list[Path]:
    """All but the random states: every process writes one of its own, in its own time."""
    return [path for path in sorted(checkpoint.iterdir()) if path.name != SEAL and not path.name.startswith("rng")]


def last_checkpoint(stage: Path) -> Path | None:
    """The newest checkpoint whose seal holds; one that a kill or a full disk cut short is removed."""
    for checkpoint in sorted(stage.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True):
        with suppress(OSError, ValueError):
            if json.loads((checkpoint / SEAL).read_text()) == {p.name: digest(p) for p in _sealed(checkpoint)}:
                return checkpoint
        shutil.rmtree(checkpoint)
    return None


class FirstStep(TrainerCallback):
    """After the first step: the adapter, saved and loaded again beside itself, must give the same logits.

    Days of training have ended in empty adapters; this takes a second. The first step is the first with a
    learning rate above zero, which a warm-up puts off by one.
    """

    def __init__(self, stage: Path):
        self.stage = stage

    def on_step_end(self, args, state, control, model=None, train_dataloader=None, **kwargs):
        if state.global_step != 1 + (args.warmup_steps > 0) or not state.is_world_process_zero:
            return
        was_training = model.training
        model.save_pretrained(self.stage / "first-step", selected_adapters=["default"])
        model.load_adapter(self.stage / "first-step", "reloaded", autocast_adapter_dtype=False)
        difference, change = reload_difference(model)
        model.set_adapter("default")
        model.delete_adapter("reloaded")
        model.train(was_training)
        write_json(self.stage / "first-step.json", {"max_logit_difference": difference, "max_logit_change": change})
        if difference > 1e-2 or change == 0:
            raise StudyError(f"after the first step the saved adapter gives other logits than the trained one (by "
                             f"{difference:.3g}; training changed them by {change:.3g}): it would be lost")


@torch.no_grad()
def reload_difference(model) -> tuple[float, float]:
    """Largest logit difference between adapters `default` and `reloaded`, and between `default` and none."""
    ids = torch.arange(3, 35, device=next(model.parameters()).device)[None] % model.config.vocab_size
    model.eval()
    trained = model(input_ids=ids, use_cache=False).logits
    model.set_adapter("reloaded")
    reloaded = model(input_ids=ids, use_cache=False).logits
    with model.disable_adapter():
        bare = model(input_ids=ids, use_cache=False).logits
    return (trained - reloaded).abs().max().item(), (trained - bare).abs().max().item()


def rehearse(trainer) -> float:
    """One forward and backward pass of the longest row before step 1, so that what does not fit fails now.

    Returns its loss. Raises StudyError where DPO does not begin at ln 2, i.e. where policy and reference
    are not the same model (Rafailov et al., arXiv 2305.18290, eq. 7).
    """
    rows = [trainer.train_dataset[longest(trainer.train_dataset)[0]]] * trainer.args.per_device_train_batch_size
    batch = {name: value.to(trainer.args.device) if torch.is_tensor(value) else value
             for name, value in trainer.data_collator(rows).items()}
    trainer.model.train()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    trainer.model.zero_grad(set_to_none=True)
    trainer._metrics["train"].clear()  # a rehearsal counts nowhere
    trainer._total_train_tokens = 0
    if hasattr(trainer.args, "beta") and abs(loss.item() - math.log(2)) > 1e-3:
        raise StudyError(f"the first loss of dpo is {loss.item():.4f} and not ln 2: the reference is not the model "
                         "that this stage starts from; run 03 again with --fresh 03")
    return loss.item()


def longest(rows) -> tuple[int, int]:
    """Number and tokens of the longest row (of a pair: with its longer answer), counted in Arrow: quick at 800,000."""
    names = [name for name in rows.column_names if name.endswith("_ids")]
    tables = rows.select_columns(names).with_format("arrow").iter(10_000)
    parts = [[pc.list_value_length(table[name]).to_numpy() for name in names] for table in tables]
    sizes = np.concatenate([np.add(first, np.max([0 * first, *others], axis=0)) for first, *others in parts])
    return int(sizes.argmax()), int(sizes.max())


def notebook_gone() -> bool:
    """Whether the notebook named in SM70_NOTEBOOK (host:process) ran on this host and runs no more."""
    host, _, process = os.environ.get("SM70_NOTEBOOK", "").partition(":")
    return host == socket.gethostname() and not psutil.pid_exists(int(process))
