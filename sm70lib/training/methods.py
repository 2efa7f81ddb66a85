"""Training methods: how each kind of stage is trained.

TRL's classes stand here by name, so that the table can be read without TRL (2 s to import).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sm70lib.study.params import StudyError


def _any_first_loss(loss: float) -> None:
    """Accepts every loss: nothing is known of it before training."""


def _first_loss_is_ln_2(loss: float) -> None:
    """Raises StudyError unless policy and reference are the same model before the first step.

    DPO then begins at ln 2 (Rafailov et al., arXiv 2305.18290, eq. 7).
    """
    if abs(loss - math.log(2)) > 1e-3:
        raise StudyError(
            f"the first loss of this stage is {loss:.4f} and not ln 2: the reference is not the "
            "model that this stage starts from; run 03 again with --fresh 03"
        )


@dataclass(frozen=True)
class Method:
    """How one kind of training stage is trained; what it reads is in `STAGES` of the parameters.

    Attributes:
        trainer: Name of its trainer class in `trainers`.
        config: Name of TRL's class of settings for that trainer.
        check_first_loss: Takes the loss before the first step and raises StudyError if it is wrong.
        fixed: Settings of TRL that no study may change.
    """

    trainer: str
    config: str
    check_first_loss: Callable[[float], None] = _any_first_loss
    fixed: dict[str, Any] = field(default_factory=dict)


READY = {"dataset_kwargs": {"skip_prepare_dataset": True}}  # rows come as `settings.prepared` gives
METHODS = {
    "cpt": Method("SFTTrainer", "SFTConfig", fixed=READY),
    "sft": Method("SFTTrainer", "SFTConfig", fixed=READY),
    "dpo": Method("PairTrainer", "DPOConfig", _first_loss_is_ln_2),
}
