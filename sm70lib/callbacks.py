"""What the trainer does beside training: metrics on disk, checks at the first step, an eye on the notebook."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from pathlib import Path

import torch
from transformers import TrainerCallback

from sm70lib.params import StudyError
from sm70lib.steps import write_json

LOGGED = ("loss", "eval_loss", "learning_rate", "grad_norm", "num_tokens")


class Metrics(TrainerCallback):
    """Appends every log record to `metrics.jsonl`; stops the run when a loss is no number."""

    def __init__(self, path: Path):
        self.path, self.start = path, time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        record = {key: float(logs[key]) for key in LOGGED if key in logs}
        if not state.is_world_process_zero or not record.keys() & {"loss", "eval_loss"}:
            return
        seconds = round(time.monotonic() - self.start, 1)
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": state.global_step, "seconds": seconds} | record) + "\n")
        if not math.isfinite(record.get("loss", 0.0)):
            raise StudyError(f"the loss is {record['loss']} at step {state.global_step}: lower the learning rate; "
                             "the last good checkpoint is kept")


class Progress(TrainerCallback):
    """Moves the progress that the runner shows."""

    def __init__(self, bar):
        self.bar = bar

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar.update(state.global_step - self.bar.n)


class Orphan(TrainerCallback):
    """Saves and stops when the notebook that started the training has gone."""

    def on_step_end(self, args, state, control, **kwargs):
        if notebook_gone():
            control.should_save = control.should_training_stop = True


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
        model.save_pretrained(self.stage / "first-step")
        model.load_adapter(self.stage / "first-step", "reloaded", autocast_adapter_dtype=False)
        difference, change = reload_difference(model)
        model.set_adapter("default")
        model.delete_adapter("reloaded")
        write_json(self.stage / "first-step.json", {"max_logit_difference": difference, "max_logit_change": change})
        if difference > 1e-2 or change == 0:
            raise StudyError(f"after the first step the saved adapter gives other logits than the trained one (by "
                             f"{difference:.3g}; training changed them by {change:.3g}): it would be lost")


@torch.no_grad()
def reload_difference(model) -> tuple[float, float]:
    """Largest logit difference between adapters `default` and `reloaded`, and between `default` and none."""
    ids = torch.arange(3, 35, device=next(model.parameters()).device)[None] % model.config.vocab_size
    was_training = model.training
    model.eval()
    trained = model(input_ids=ids, use_cache=False).logits
    model.set_adapter("reloaded")
    reloaded = model(input_ids=ids, use_cache=False).logits
    with model.disable_adapter():
        bare = model(input_ids=ids, use_cache=False).logits
    model.set_adapter("default")
    model.train(was_training)
    return (trained - reloaded).abs().max().item(), (trained - bare).abs().max().item()


def rehearse(trainer) -> None:
    """One forward and backward pass of the longest row, so that what does not fit fails before step 1."""
    longest = max(range(len(trainer.train_dataset)), key=lambda row: len(trainer.train_dataset[row]["input_ids"]))
    batch = trainer.data_collator([trainer.train_dataset[longest]] * trainer.args.per_device_train_batch_size)
    batch = {name: value.to(trainer.args.device) if torch.is_tensor(value) else value
             for name, value in batch.items()}
    trainer.model.train()
    trainer.model(**batch, use_cache=False).loss.backward()
    trainer.model.zero_grad(set_to_none=True)


def notebook_gone() -> bool:
    """Whether the notebook named in SM70_NOTEBOOK (host:process) ran on this host and runs no more."""
    host, _, process = os.environ.get("SM70_NOTEBOOK", "").partition(":")
    if host != socket.gethostname() or not process:
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    return False
