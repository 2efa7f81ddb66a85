"""Sealed checkpoints: training never resumes from a half-written or damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from sm70lib.records.children import NOTE
from sm70lib.steps.steps import digest, write_json, write_text
from sm70lib.steps.trained import checkpoints_of, restore_metrics, step_of
from sm70lib.study.files import CONFIGURATION, public
from sm70lib.study.params import StudyError

SEAL = "sealed.json"  # digests of a checkpoint's files; a checkpoint without it was cut short


class Seal(TrainerCallback):
    """Seals a checkpoint once all of it is written.

    Raises StudyError instead if a trainable weight is NaN or infinite.

    Args:
        base: Where the base is read from.
        name: Its public name.
    """

    def __init__(self, base: str = "", name: str = ""):
        self.base, self.name = base, name

    def on_save(self, args, state, control, model=None, **kwargs):
        finite = all(torch.isfinite(weight).all() for weight in own_weights(model))
        # Here every process waits for the others, so all have written their random states.
        spoilt = torch.tensor(float(not finite), device=PartialState().device)
        if reduce(spoilt, reduction="sum"):  # in any process
            raise StudyError(
                f"a trained weight is NaN or infinite at step {state.global_step}: lower the "
                "learning rate; the last good checkpoint is kept"
            )
        if not state.is_world_process_zero:
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        make_shareable(checkpoint, self.base, self.name)
        write_json(checkpoint / SEAL, _digests(checkpoint))


def make_shareable(folder: Path, base: str, name: str) -> None:
    """Names the base by its public name in what PEFT wrote, instead of by a path of this machine.

    An adapter is shared without its study, and the path would tell the name of a home folder. So
    would the pickled arguments of the trainer, which nothing reads again.

    Args:
        folder: A checkpoint, an adapter or a model.
        base: Where the base is read from.
        name: Its public name.
    """
    (folder / "training_args.bin").unlink(missing_ok=True)
    # DPO's reference is a second adapter, in a folder of its own
    for path in (*folder.rglob(CONFIGURATION), *folder.rglob("README.md")):
        if base:
            write_text(path, public(path.read_text(encoding="utf-8").replace(base, name)))


class Trained(Exception):
    """The checkpoint that is resumed from has all steps of the stage."""


class Complete(TrainerCallback):
    """Raises Trained, once a checkpoint is loaded, if no step is left.

    transformers would train one step more than was asked.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps:
            raise Trained


@torch.no_grad()
def own_weights(model) -> Iterator[torch.Tensor]:
    """The trained weights of a model, or the pieces of them that this process holds."""
    for weight in model.parameters():
        if weight.requires_grad:
            yield weight.to_local() if isinstance(weight, DTensor) else weight


def _digests(checkpoint: Path) -> dict[str, str]:
    """Digests of a checkpoint's files, by name."""
    return {path.name: digest(path) for path in sorted(checkpoint.iterdir()) if path.name != SEAL}


def _fault(checkpoint: Path) -> str:
    """Why a checkpoint cannot be resumed from; "" if it can.

    Checkpoints of earlier versions have no random states in their seal. These files are read then:
    torch writes zip archives, whose parts have checksums.
    """
    if not (checkpoint / SEAL).exists():
        return "it was cut short"
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        now = _digests(checkpoint)
        differing = [
            name for name in sorted(sealed.keys() | now) if sealed.get(name) != now.get(name)
        ]
        unsealed = [name for name in differing if name not in sealed and name.startswith("rng")]
        if any(name.startswith("rng") for name in sealed):
            unsealed = []
        differing = [name for name in differing if name not in unsealed]
        differing += [name for name in unsealed if ZipFile(checkpoint / name).testzip()]
    except (OSError, ValueError, AttributeError, BadZipFile) as error:
        return f"it cannot be read ({error})"
    return f"{differing[0]} is not as it was saved" if differing else ""


def last_checkpoint(stage: Path) -> Path | None:
    """The newest checkpoint whose seal holds; None without one. Those passed over are named."""
    for checkpoint in checkpoints_of(stage):
        fault = _fault(checkpoint)
        if not fault:
            return checkpoint
        print(f"{NOTE}{checkpoint.name} of {stage.name} is passed over: {fault}", flush=True)
    return None


def forget_after(stage: Path, checkpoint: Path | None) -> None:
    """Drops what came after a checkpoint, because it will be trained again.

    That is newer checkpoints, which a kill or a full disk cut short, and the metrics of later
    steps.
    """
    step = step_of(checkpoint) if checkpoint else -1  # the first record is that of step 0
    for newer in checkpoints_of(stage):
        if step_of(newer) > step:
            shutil.rmtree(newer)
    restore_metrics(stage)
    path = stage / "metrics.jsonl"
    lines = path.read_text(errors="replace").splitlines(True) if path.exists() else []
    write_text(path, "".join(line for line in lines if _is_until(line, step)))


def _is_until(line: str, step: int) -> bool:
    """Whether a line is a whole record of a step up to this one."""
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= step
    except (ValueError, TypeError, KeyError):
        return False
