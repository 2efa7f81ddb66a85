"""The trainer's process: one stage by TRL, which resumes after any kill.

The notebook calls `launch.run`. It writes `stage.json` and starts
`python -m sm70lib.training.train <stage folder>`, with `torchrun` or `accelerate launch` in front
if `train_launcher` says so. The process writes `metrics.jsonl` during training, and
`adapter/` or `model/` at its end. A laptop and a node with many GPUs take the same path.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import sys
from contextlib import nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

from filelock import FileLock, Timeout

from sm70lib.records import children
from sm70lib.steps.steps import progress, write_json
from sm70lib.steps.trained import LEFT, checkpoints_of, finished
from sm70lib.study.files import WEIGHTS, record
from sm70lib.study.params import StudyError
from sm70lib.study.used import trained, trains_all
from sm70lib.training.launch import NO_SPACE, no_space
from sm70lib.training.rows import rows_of
from sm70lib.training.trainers import Counted, build

# How long processes wait for each other. The first reads a checkpoint for its seal while the others
# wait, and NCCL would give up after 10 minutes: all weights of 70 billion are 830 GB, half an hour
# and more from a disk that many share. A process that ends is noticed at once, by its launcher.
PATIENCE = timedelta(hours=6)


def main(stage: Path) -> int:
    """Trains the stage that `stage.json` describes.

    With several processes, only the first locks the folder, cleans it up, writes to it and
    finishes the stage. All processes must see the same folder.

    Args:
        stage: The stage's folder.

    Returns:
        0, the exit code, when the adapter or the model is in place.

    Raises:
        StudyError: If the stage cannot be trained.
    """
    from accelerate import PartialState

    from sm70lib.models import loading
    from sm70lib.training import checkpoints

    description = json.loads((stage / "stage.json").read_text())
    if description["start"]:  # no path of this machine is written
        description["start"] = str(stage.absolute().parent / description["start"])
    # Modules are never garbage, and the trainer has all objects looked through several times.
    gc.freeze()
    # The trainer's own state takes over the group of processes that is made here.
    processes = PartialState(cpu=loading.device().type == "cpu", timeout=PATIENCE)
    with _alone(stage) if processes.is_main_process else nullcontext():
        done = finished(stage)
        if processes.is_main_process and not done:
            checkpoints.forget_after(stage, checkpoints.last_checkpoint(stage))
        processes.wait_for_everyone()
        if not done:
            _train(
                stage,
                stage.absolute().parents[1],
                SimpleNamespace(**description["params"]),
                SimpleNamespace(**description),
            )
    return 0


def _alone(stage: Path):
    """Holds the stage's lock.

    The wait is for an orphan of a killed notebook, which gives the lock up at its next step. A
    trainer whose notebook lives keeps it.
    """
    try:
        return FileLock(stage / "lock").acquire(timeout=60)
    except Timeout:
        raise StudyError(
            f"another process trains in {stage}: wait for it or end it, then run again"
        ) from None


def _train(stage: Path, folder: Path, p, how) -> None:
    from datasets import disable_caching

    from sm70lib.models import loading
    from sm70lib.training import checkpoints, checks, watch

    disable_caching()  # packing would leave files in data/train and change its digest
    rows, holdout = rows_of(how.kind, folder, p, how.number)
    base = loading.located(folder)
    trainer = build(p, base, rows, holdout, stage, how)
    # `main` has found it by reading checkpoints, in the first process, and dropped all newer ones.
    checkpoint = next(iter(checkpoints_of(stage)), None)
    # A resumed run has the loss of step 0 already.
    trainer.args.eval_on_start = checkpoint is None and len(holdout) > 0
    documents = folder / "data/holdout.csv" if how.kind == "sft" else None
    for check in checks.first_steps(stage, how.kind, trains_all(p), trainer.is_fsdp_enabled):
        trainer.add_callback(check)
    if checkpoint is None and not trainer.is_fsdp_enabled:
        checks.rehearse(trainer, how.kind)
        watch.measure_documents(trainer, documents, stage, watch.BEFORE)
    seal = checkpoints.Seal(loading.existing(base), loading.public_name(folder))
    _run(trainer, stage, checkpoint, seal)
    if children.notebook_gone():
        sys.exit(children.ORPHANED)
    if not trainer.is_fsdp_enabled:
        watch.measure_documents(trainer, documents, stage, watch.AFTER)
    _finish(trainer, stage, folder, p)


def _run(trainer, stage: Path, checkpoint: Path | None, seal) -> None:
    """Trains from a checkpoint, or from step 0, to the last step; `seal` seals checkpoints."""
    from sm70lib.training import checkpoints, watch

    with progress(trainer.args.max_steps, "step", stage.name) as bar:
        trainer.add_callback(Counted(trainer))
        trainer.add_callback(watch.Metrics(stage / "metrics.jsonl", bar))
        trainer.add_callback(watch.Orphan())
        trainer.add_callback(seal)
        trainer.add_callback(checkpoints.Complete())
        with suppress(checkpoints.Trained):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _finish(trainer, stage: Path, folder: Path, p) -> None:
    """Puts the adapter or the model in place by one rename, then marks the stage as done.

    Only process 0 does so. The folder also records the template of the rows.
    """
    from sm70lib.corpus import chat, templates
    from sm70lib.models import loading
    from sm70lib.training import checkpoints

    scratch = stage / f"{trained(p)}.part"
    if trainer.is_world_process_zero():
        shutil.rmtree(scratch, ignore_errors=True)  # what a kill has left there
    trainer.accelerator.wait_for_everyone()
    if trains_all(p):
        _save_model(trainer, scratch, p.quant_compute_dtype)
    else:
        _save_adapter(trainer, scratch)
    if not trainer.is_world_process_zero():
        return
    place = loading.existing(loading.located(folder))
    checkpoints.make_shareable(scratch, place, loading.public_name(folder))
    words = chat.text_of(trainer.processing_class) if p.data_template == templates.CHAT else None
    templates.leave_digest(scratch, p.data_template, words)
    shutil.rmtree(stage / trained(p), ignore_errors=True)
    os.replace(scratch, stage / trained(p))
    about = {"steps": trainer.state.global_step, "world_size": trainer.args.world_size}
    write_json(stage / "done.json", about | {LEFT: record(stage / trained(p))})


def _save_model(trainer, folder: Path, dtype: str) -> None:
    """Saves all weights in the type that the study computes in, with the tokenizer."""
    import torch

    trainer.model.to(getattr(torch, dtype))
    weights = trainer.accelerator.get_state_dict(trainer.model)  # gathered from every process
    if not trainer.is_world_process_zero():
        return
    tied = weights.keys() - {name for name, _ in trainer.model.named_parameters()}
    trainer.model.config.use_cache = True  # `loading.load` switches it off
    once = {name: weight for name, weight in weights.items() if name not in tied}
    trainer.model.save_pretrained(folder, state_dict=once)
    trainer.processing_class.save_pretrained(folder)


def _save_adapter(trainer, scratch: Path) -> None:
    """Saves the adapter; raises StudyError if it has learned nothing."""
    from safetensors.torch import load_file

    weights = None
    if trainer.accelerator.is_fsdp2:
        weights = _gathered(trainer.model)
    elif trainer.is_fsdp_enabled:
        trainer.save_model(str(scratch))  # gathers the pieces, so every process takes part
    if not trainer.is_world_process_zero():
        return
    if weights or not trainer.is_fsdp_enabled:
        trainer.model.save_pretrained(scratch, state_dict=weights, selected_adapters=["default"])
    for name, weight in load_file(scratch / WEIGHTS).items():
        if "lora_B" in name and not weight.any():
            raise StudyError(
                f"{scratch}: {name} is all zero, so nothing was learned there; raise the learning "
                "rate"
            )


def _gathered(model) -> dict:
    """The trained weights, whole, from the pieces of all processes; {} but in the first of them.

    `Trainer.save_model` writes nothing where checkpoints stay in pieces, and accelerate would
    gather the frozen base too.
    """
    from torch.distributed.checkpoint import state_dict

    how = state_dict.StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=True
    )
    return state_dict.get_model_state_dict(model, options=how)


def _writing(error: Exception) -> bool:
    """Whether an error comes from writing to a full disk."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if getattr(error, "errno", None) in numbers:
        return True
    # torch and safetensors raise errors of their own, which have no errno
    of_safetensors = [f"(os error {number})" for number in numbers]
    return any(word in str(error) for word in ("inline_container", "writing file", *of_safetensors))


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except StudyError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if not _writing(error):
            raise
        with suppress(OSError):
            print(f"{no_space(Path(sys.argv[1]))} ({error})", file=sys.stderr, flush=True)
        os._exit(NO_SPACE)  # skips the flush at exit, which would fail and change the exit code
