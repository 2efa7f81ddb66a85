"""What the trainer does beside training: metrics, sealed checkpoints, first-step checks, an eye on the notebook."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import TrainerCallback

from sm70lib.study.params import StudyError
from sm70lib.study.steps import write_json
from sm70lib.training.methods import longest


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
        write_json(
            self.stage / "first-step.json",
            {"max_logit_difference": difference, "max_logit_change": change},
        )
        if difference > 1e-2 or change == 0:
            raise StudyError(
                f"after the first step the saved adapter gives other logits than the trained one (by "
                f"{difference:.3g}; training changed them by {change:.3g}): it would be lost"
            )


@torch.no_grad()
def reload_difference(model) -> tuple[float, float]:
    """Largest logit difference between adapters `default` and `reloaded`, and between `default` and none."""
    ids = (
        torch.arange(3, 35, device=next(model.parameters()).device)[None] % model.config.vocab_size
    )
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
    rows = [
        trainer.train_dataset[longest(trainer.train_dataset)[0]]
    ] * trainer.args.per_device_train_batch_size
    batch = {
        name: value.to(trainer.args.device) if torch.is_tensor(value) else value
        for name, value in trainer.data_collator(rows).items()
    }
    trainer.model.train()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    trainer.model.zero_grad(set_to_none=True)
    trainer._metrics["train"].clear()  # a rehearsal counts nowhere
    trainer._total_train_tokens = 0
    if hasattr(trainer.args, "beta") and abs(loss.item() - math.log(2)) > 1e-3:
        raise StudyError(
            f"the first loss of dpo is {loss.item():.4f} and not ln 2: the reference is not the model "
            "that this stage starts from; run 03 again with --fresh 03"
        )
    return loss.item()
