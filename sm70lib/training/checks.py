"""Checks at the start of training: that the longest row fits, and that the adapter can be saved."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainerCallback

from sm70lib.steps.steps import write_json
from sm70lib.study.params import StudyError
from sm70lib.training import trainers
from sm70lib.training.methods import METHODS, longest


class FirstStep(TrainerCallback):
    """After the first step, saves the adapter, loads it again and compares the logits of the two.

    Days of training have ended in empty adapters; this check takes a second. The first step is
    the first one with a learning rate above zero, which a warm-up delays by one.

    Args:
        stage: The stage's folder, for the saved adapter and `first-step.json`.
    """

    def __init__(self, stage: Path):
        self.stage = stage

    def on_step_end(self, args, state, control, model=None, train_dataloader=None, **kwargs):
        first_step = 1 + (args.warmup_steps > 0)
        if state.global_step != first_step or not state.is_world_process_zero:
            return
        was_training = model.training
        model.save_pretrained(self.stage / "first-step", selected_adapters=["default"])
        model.load_adapter(self.stage / "first-step", "reloaded", autocast_adapter_dtype=False)
        difference, change = reload_difference(model)
        model.set_adapter("default")
        model.delete_adapter("reloaded")
        model.train(was_training)
        write_json(
            self.stage / "first-step.json",
            {"max_logit_difference": difference, "max_logit_change": change},
        )
        if difference > 1e-2 or change == 0:
            raise StudyError(
                f"after the first step the saved adapter gives other logits than the trained one "
                f"(by {difference:.3g}; training changed them by {change:.3g}): it would be lost"
            )


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
