"""Training stages (cpt, sft, dpo): QLoRA by TRL and PEFT, in processes of their own, resumable after any kill.

The notebook calls `run`, which writes `stage.json` and starts `python -m sm70lib.training.train <stage folder>`
(behind `torchrun` or `accelerate launch` where `train_launcher` says so); the process writes
`metrics.jsonl` as it goes and `adapter/` when it is done. One path from laptop to node.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

from filelock import FileLock, Timeout

from sm70lib.study.params import StudyError
from sm70lib.study.steps import progress, write_json
from sm70lib.training.launch import NO_SPACE, finished, no_space
from sm70lib.training.methods import build, forget_after, rows_of

# ---- the trainer's process ------------------------------------------------------------------------


def main(stage: Path) -> int:
    """Trains the stage that `stage.json` describes; 0 when its adapter is in place.

    Of several processes only the first locks, cleans up, writes and finishes; the folder must be one that
    all of them see.
    """
    from accelerate import PartialState

    from sm70lib.models import loading
    from sm70lib.training import checkpoints

    description = json.loads((stage / "stage.json").read_text())
    processes = PartialState(cpu=loading.device().type == "cpu")
    with _alone(stage) if processes.is_main_process else nullcontext():
        done = finished(stage)
        if processes.is_main_process and not done:
            forget_after(stage, checkpoints.last_checkpoint(stage))
        processes.wait_for_everyone()
        if not done:
            _train(
                stage,
                Path(description["study_folder"]),
                SimpleNamespace(**description["params"]),
                SimpleNamespace(**description),
            )
    return 0


def _alone(stage: Path):
    """Holds the stage's lock; an orphan of a killed notebook gives it up at its next step, a watched trainer never."""
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

    disable_caching()  # TRL's maps would leave files in data/train and change its digest
    trainer = build(
        p, loading.located(folder), *rows_of(how.kind, folder, p, how.number), stage, how
    )
    checkpoint = checkpoints.last_checkpoint(stage)
    if (
        not trainer.is_fsdp_enabled
    ):  # there a weight is in pieces until training starts, and no process has it whole
        trainer.add_callback(checks.FirstStep(stage))
        if checkpoint is None:
            checks.rehearse(trainer)
    with progress(trainer.args.max_steps, "step", stage.name) as bar:
        for callback in (
            watch.Metrics(stage / "metrics.jsonl", bar),
            watch.Orphan(),
            checkpoints.Seal(),
        ):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if watch.notebook_gone():
        sys.exit(watch.ORPHANED)
    _finish(trainer, stage, p.data_template)


def _finish(trainer, stage: Path, template: str) -> None:
    """Puts the adapter in place by one rename and marks the stage as done after it; process 0 does.

    Beside the adapter's weights stands the `template` that its rows were in.
    """
    from safetensors.torch import load_file

    from sm70lib.corpus import templates

    scratch = stage / "adapter.part"
    if trainer.is_fsdp_enabled:
        trainer.save_model(str(scratch))  # gathers the pieces, so every process takes part
    if not trainer.is_world_process_zero():
        return
    if not trainer.is_fsdp_enabled:
        trainer.model.save_pretrained(scratch, selected_adapters=["default"])
    weights = load_file(scratch / "adapter_model.safetensors")
    if empty := [name for name, weight in weights.items() if "lora_B" in name and not weight.any()]:
        raise StudyError(
            f"{scratch}: {empty[0]} is all zero, so nothing was learned there; raise the learning rate"
        )
    templates.leave_digest(scratch, template)
    shutil.rmtree(stage / "adapter", ignore_errors=True)
    os.replace(scratch, stage / "adapter")
    write_json(
        stage / "done.json",
        {"steps": trainer.state.global_step, "world_size": trainer.args.world_size},
    )


def _writing(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        word in str(error) for word in ("inline_container", "writing file", "os error")
    )  # of torch and safetensors


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
        os._exit(NO_SPACE)  # without the flush at exit, which would fail and change the code
