"""Checks at the start of training: that the longest row fits, and that what is trained is saved."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from sm70lib.steps.steps import write_json
from sm70lib.study.params import StudyError
from sm70lib.training import trainers
from sm70lib.training.checkpoints import own_weights
from sm70lib.training.methods import METHODS
from sm70lib.training.rows import longest


def _is_first_step(args, state) -> bool:
    """Whether this was the first step with a learning rate above zero, which a warm-up delays."""
    return state.global_step == 1 + (args.warmup_steps > 0)


class FirstStep(TrainerCallback):
    """After the first step, saves the adapter, loads it again and compares the logits of the two.

    Days of training have ended in empty adapters; this check takes a second.

    Args:
        stage: The stage's folder, for the saved adapter and `first-step.json`.
    """

    def __init__(self, stage: Path):
        self.stage = stage

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if not _is_first_step(args, state) or not state.is_world_process_zero:
            return
        was_training = model.training
        model.save_pretrained(self.stage / "first-step", selected_adapters=["default"])
        model.load_adapter(self.stage / "first-step", "reloaded", autocast_adapter_dtype=False)
        difference, change = reload_difference(model)
        model.set_adapter("default")
        model.delete_adapter("reloaded")
        model.train(was_training)
        shutil.rmtree(self.stage / "first-step")
        write_json(
            self.stage / "first-step.json",
            {"max_logit_difference": difference, "max_logit_change": change},
        )
        if difference > 1e-2 or change == 0:
            raise StudyError(
                "after the first step the adapter on disk is not the one in memory: their logits "
                f"differ by {difference:.3g}, and training changed them by {change:.3g}. What is "
                "trained would be lost; report this with the versions in manifest.json"
            )


class FirstMove(TrainerCallback):
    """After the first step, counts the weights that have moved, and compares memory with disk.

    Where processes share a model, the first looks at its pieces of what is trained, be it all
    weights or an adapter. Nothing is saved then, as no process has a whole weight.

    Args:
        stage: The stage's folder, for `first-step.json`.
        shared: Whether processes share the model.
    """

    def __init__(self, stage: Path, shared: bool):
        self.stage, self.shared = stage, shared

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.before: list[float] = _sums(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if not _is_first_step(args, state) or not state.is_world_process_zero:
            return
        after = _sums(model)
        moved = sum(one != other for one, other in zip(self.before, after, strict=True))
        found: dict[str, float] = {"weights": len(after), "weights_moved": moved}
        if not self.shared:
            found["max_weight_difference"] = saved_difference(model, self.stage / "first-step")
        write_json(self.stage / "first-step.json", found)
        apart = found.get("max_weight_difference")
        if not moved or apart:
            saved = "" if apart is None else f", and the saved ones differ by {apart:.3g}"
            raise StudyError(
                f"after the first step {moved} of {len(after)} weights have moved{saved}: training "
                "would have no effect, or would be lost; raise the learning rate, or report this"
            )


class FirstLoss(TrainerCallback):
    """Checks the held-out loss before the first step, where `rehearse` cannot: under FSDP.

    Args:
        kind: The kind of the stage.
    """

    def __init__(self, kind: str):
        self.kind = kind

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if state.global_step == 0 and metrics:
            METHODS[self.kind].check_first_loss(metrics["eval_loss"])


def first_steps(
    stage: Path, kind: str, all_weights: bool, sharded: bool
) -> Iterator[TrainerCallback]:
    """The checks of a stage at its first step; one writes `first-step.json`, which 03 reads.

    Under FSDP a weight is in pieces until training starts, and no process has all of it.

    Args:
        stage: The stage's folder.
        kind: The kind of the stage.
        all_weights: Whether all weights are trained.
        sharded: Whether processes share the model by FSDP.
    """
    if all_weights or sharded:
        yield FirstMove(stage, sharded)
    else:
        yield FirstStep(stage)
    if sharded:
        yield FirstLoss(kind)


def _sums(model) -> list[float]:
    """The sum of each trained weight, or of the pieces that this process holds."""
    return [weight.sum(dtype=torch.float64).item() for weight in own_weights(model)]


@torch.no_grad()
def saved_difference(model, scratch: Path) -> float:
    """The largest difference of a model's weights from those that are read after saving them.

    Args:
        model: The model.
        scratch: A folder that is deleted afterwards: it is as large as the model.
    """
    # Under the names that the model has now: some families are stored under older ones.
    model.save_pretrained(scratch, save_original_format=False)
    weights = model.state_dict()
    largest = 0.0
    for file in scratch.glob("*.safetensors"):
        for name, saved in load_file(file).items():
            now = weights[name].cpu()
            largest = max(largest, (now - saved).abs().max().item())
    shutil.rmtree(scratch)
    return largest


@torch.no_grad()
def reload_difference(model) -> tuple[float, float]:
    """The largest logit difference between adapters `default` and `reloaded`, and from no adapter.

    Returns:
        The largest difference of `reloaded` from `default`, and of no adapter from `default`.
    """
    device = next(model.parameters()).device
    ids = torch.arange(3, 35, device=device)[None] % model.config.get_text_config().vocab_size
    model.eval()
    trained = model(input_ids=ids, use_cache=False).logits
    model.set_adapter("reloaded")
    reloaded = model(input_ids=ids, use_cache=False).logits
    with model.disable_adapter():
        bare = model(input_ids=ids, use_cache=False).logits
    return (trained - reloaded).abs().max().item(), (trained - bare).abs().max().item()


def rehearse(trainer, kind: str) -> float:
    """Runs the longest row forward and backward before step 1, so that a lack of memory shows now.

    Args:
        trainer: TRL's trainer of a stage.
        kind: The kind of the stage.

    Returns:
        The loss of a batch that holds this row alone.

    Raises:
        StudyError: If the method's first loss is known and this is another one.
    """
    place, _ = longest(trainer.train_dataset)
    rows = [trainer.train_dataset[place]] * trainer.args.per_device_train_batch_size
    batch = {
        name: value.to(trainer.args.device) if torch.is_tensor(value) else value
        for name, value in trainer.data_collator(rows).items()
    }
    trainer.model.train()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    trainer.model.zero_grad(set_to_none=True)
    trainers.uncount(trainer)
    METHODS[kind].check_first_loss(loss.item())
    return loss.item()
