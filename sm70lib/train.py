"""One training stage: QLoRA by TRL and PEFT, always in a process of its own, resumable after any kill.

The notebook calls `run`, which writes `stage.json` and starts `python -m sm70lib.train <stage folder>`
(behind `torchrun` or `accelerate launch` where `train_launcher` says so); the process writes
`metrics.jsonl` as it goes and `adapter/` when it is done. One path from laptop to node.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Callable

import pandas as pd

from sm70lib.params import StudyError
from sm70lib.steps import ROOT, progress, write_json

KINDS = ("sft",)
CHECKPOINT_FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
ORPHANED = 3  # exit code of a trainer whose notebook has gone


def run(p, folder: Path, number: int, kind: str, watch: Callable[[pd.DataFrame], None] = lambda frame: None) -> Path:
    """Trains stage `number` of kind `kind` below the study's `folder` and returns the stage's folder.

    Goes on from the last complete checkpoint; returns at once where the stage is finished. `watch` gets the
    metrics so far (one row per logged step) every two seconds. Raises StudyError with the trainer's last
    line when it fails.
    """
    stage = folder / "stages" / f"{number}-{kind}"
    write_json(stage / "stage.json", {"study_folder": str(folder), "kind": kind, "params": p.model_dump()})
    command = [*launcher(p.train_launcher), "-m", "sm70lib.train", str(stage)]
    environment = os.environ | {"SM70_NOTEBOOK": f"{socket.gethostname()}:{os.getpid()}"}
    with open(stage / "log.txt", "a") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(2)
            watch(metrics(stage))
    if process.returncode != 0:
        last = (stage / "log.txt").read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise StudyError(f"training stopped with exit code {process.returncode}: {last[0]} "
                         f"(all of it: {stage / 'log.txt'})")
    watch(metrics(stage))
    return stage


def launcher(line: str) -> list[str]:
    """The command in front of `-m sm70lib.train`: `python` is this interpreter, anything else as written."""
    words = shlex.split(line)
    return [sys.executable, *words[1:]] if words[0] == "python" else words


def metrics(stage: Path) -> pd.DataFrame:
    """What the trainer logged so far: step, loss, eval_loss (nats per target token), learning_rate, ..."""
    path = stage / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines if line.endswith("}")])


def publish(stage: Path, adapter: Path) -> None:
    """Copies a stage's adapter to where the next notebooks look for the study's last one."""
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(stage / "adapter", adapter)


def adapter_table(adapter: Path) -> pd.DataFrame:
    """The adapter by kind of layer: matrices, parameters, and the Frobenius norms of A and B (means over layers)."""
    from safetensors.torch import load_file
    rows = [(name.split(".")[-3], name.split(".")[-2][-1], weight.numel(), weight.float().norm().item())
            for name, weight in load_file(adapter / "adapter_model.safetensors").items()]
    frame = pd.DataFrame(rows, columns=["layer", "matrix", "parameters", "norm"])
    norms = frame.pivot_table(index="layer", columns="matrix", values="norm", sort=False).add_prefix("norm_")
    return frame.groupby("layer", sort=False)["parameters"].agg(["size", "sum"]).set_axis(
        ["matrices", "parameters"], axis=1).join(norms.round(2))


# ---- the trainer's process ------------------------------------------------------------------------


def main(stage: Path) -> int:
    """Trains the stage that `stage.json` describes; 0 when its adapter is in place."""
    description = json.loads((stage / "stage.json").read_text())
    p, folder = SimpleNamespace(**description["params"]), Path(description["study_folder"])
    with open(stage / "lock", "w") as lock:
        _wait_for(lock)
        if not (stage / "done.json").exists():
            _train(stage, folder, p)
    return 0


def _wait_for(lock, seconds: int = 60) -> None:
    """An orphan of a killed notebook stops at its next step; a trainer that is watched does not."""
    for _ in range(seconds):
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(1)
    raise StudyError(f"another process trains in {Path(lock.name).parent}: wait for it or end it, then run again")


def _train(stage: Path, folder: Path, p) -> None:
    from datasets import disable_caching, load_from_disk

    from sm70lib import callbacks, model
    disable_caching()  # TRL's maps would leave files in data/train and change its digest
    trainer = build(p, model.located(folder), load_from_disk(folder / "data/train"),
                    load_from_disk(folder / "data/holdout"), stage)
    checkpoint = last_checkpoint(stage)
    forget_after(stage, checkpoint)
    for callback in (callbacks.Metrics(stage / "metrics.jsonl"), callbacks.FirstStep(stage), callbacks.Orphan()):
        trainer.add_callback(callback)
    if checkpoint is None:
        callbacks.rehearse(trainer)
    with progress(trainer.args.max_steps, "step", stage.name) as bar:
        trainer.add_callback(callbacks.Progress(bar))
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if callbacks.notebook_gone():
        sys.exit(ORPHANED)
    _finish(trainer, stage)


def build(p, base: str, rows, holdout, stage: Path):
    """TRL's SFTTrainer on the quantised base with a fresh LoRA adapter on every linear layer.

    `rows` and `holdout` hold `input_ids` and `labels` and nothing else that counts: TRL pads them, packs
    them and never looks for a mask.
    """
    import torch
    from peft import LoraConfig
    from trl import SFTTrainer

    from sm70lib import model as models
    tokenizer = models.load_tokenizer(base)
    lora = LoraConfig(r=p.lora_r, lora_alpha=p.lora_alpha, lora_dropout=p.lora_dropout, target_modules=p.lora_targets,
                      task_type="CAUSAL_LM")
    trainer = SFTTrainer(model=models.load(base, p), args=sft_config(p, stage), peft_config=lora,
                         processing_class=tokenizer, train_dataset=rows.select_columns(["input_ids", "labels"]),
                         eval_dataset=holdout.select_columns(["input_ids", "labels"]))
    if p.lora_dtype == "fp32":  # TRL made them bf16, and a resumed run would read them back as fp32: not the same run
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(torch.float32)
    return trainer


def sft_config(p, stage: Path):
    """The study's parameters in TRL's words; what TRL would choose by itself is said explicitly."""
    import torch
    from trl import SFTConfig
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    accumulation, rest = divmod(p.sft_batch_size, p.train_micro_batch_size * world_size)
    if rest or not accumulation:
        raise StudyError(f"sft_batch_size {p.sft_batch_size} is no multiple of train_micro_batch_size "
                         f"{p.train_micro_batch_size} times {world_size} processes: change one of the two")
    return SFTConfig(
        output_dir=str(stage), max_steps=p.sft_steps, per_device_train_batch_size=p.train_micro_batch_size,
        per_device_eval_batch_size=p.train_micro_batch_size, gradient_accumulation_steps=accumulation,
        learning_rate=p.sft_lr, lr_scheduler_type=p.sft_scheduler, warmup_steps=round(p.sft_warmup * p.sft_steps),
        weight_decay=p.sft_weight_decay, max_grad_norm=p.sft_max_grad_norm, optim=p.sft_optimizer,
        packing=p.sft_packing, max_length=p.data_max_length, seed=p.seed, data_seed=p.seed,
        bf16=p.quant_compute_dtype == "bfloat16", gradient_checkpointing=p.train_gradient_checkpointing,
        eval_strategy="steps", eval_steps=max(1, p.sft_steps // 6), logging_steps=max(1, p.sft_steps // 60),
        save_strategy="steps", save_steps=p.train_save_steps, save_total_limit=2,
        logging_nan_inf_filter=False,  # else a loss of NaN is logged as the mean of the others
        use_cpu=not torch.cuda.is_available(), report_to=[], disable_tqdm=True)


def last_checkpoint(stage: Path) -> Path | None:
    """The newest checkpoint with all its files readable; one that a kill cut short is removed."""
    for checkpoint in sorted(stage.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True):
        if _complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def _complete(checkpoint: Path) -> bool:
    """`trainer_state.json` is what transformers writes last; the weights must open as well."""
    from safetensors import SafetensorError, safe_open
    if not all((checkpoint / name).is_file() for name in CHECKPOINT_FILES):
        return False
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        with safe_open(checkpoint / "adapter_model.safetensors", "pt") as weights:
            return bool(weights.keys())
    except (ValueError, SafetensorError):
        return False


def forget_after(stage: Path, checkpoint: Path | None) -> None:
    """Drops the metrics of steps that will be trained again."""
    step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    rows = metrics(stage)
    kept = rows[rows["step"] <= step] if len(rows) else rows
    text = "".join(json.dumps(row.dropna().to_dict()) + "\n" for _, row in kept.iterrows())
    (stage / "metrics.jsonl").write_text(text)


def _finish(trainer, stage: Path) -> None:
    """Puts the adapter in place by one rename and marks the stage as done after it."""
    scratch = stage / "adapter.part"
    trainer.model.save_pretrained(scratch)
    shutil.rmtree(stage / "adapter", ignore_errors=True)
    os.replace(scratch, stage / "adapter")
    write_json(stage / "done.json", {"steps": trainer.state.global_step, "train_loss": trainer.state.log_history[-1]})


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except StudyError as error:
        sys.exit(f"error: {error}")
