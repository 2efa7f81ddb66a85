"""Training stages (cpt, sft, dpo): QLoRA by TRL and PEFT, in processes of their own, resumable after any kill.

The notebook calls `run`, which writes `stage.json` and starts `python -m sm70lib.training.train <stage folder>`
(behind `torchrun` or `accelerate launch` where `train_launcher` says so); the process writes
`metrics.jsonl` as it goes and `adapter/` when it is done. One path from laptop to node.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Callable

import pandas as pd
from filelock import FileLock, Timeout

from sm70lib.study import keys
from sm70lib.study.params import StudyError
from sm70lib.study.steps import ROOT, digest, progress, write_json

# What a stage reads below the study's folder, and the columns that its trainer is given.
READS = {"cpt": ("data/text", ["input_ids", "labels"]), "sft": ("data/train", ["input_ids", "labels"]),
         "dpo": ("data/preferences", ["prompt_ids", "chosen_ids", "rejected_ids"])}

NO_SPACE = 28  # exit code of a trainer that could not write (errno ENOSPC)
KILLED = (-9, 137)  # exit codes of a trainer that was killed, as a machine does when memory is full
# What a trainer, or the launcher above it, says of an end for want of memory
NO_MEMORY = ("OutOfMemoryError", "out of memory", "MemoryError", "not enough memory",
             "Cannot allocate memory", "Signal 9 (SIGKILL)", "exitcode: -9", "exitcode  : -9")


def run(p, folder: Path, number: int, kind: str, watch: Callable[[pd.DataFrame], None] = lambda frame: None,
        seed: int | None = None) -> Path:
    """Trains stage `number` of kind `kind` below the study's `folder` and returns the stage's folder.

    It starts from the adapter of the stage before it, trained with the same `seed` (by default the first of
    `train_seeds`). Goes on from the last complete checkpoint; returns at once, without a process, where the
    stage is finished. `watch` gets the metrics so far (one row per logged step) every two seconds. Raises
    StudyError with the trainer's sentence when it fails, and where the folder holds something trained with
    other data or parameters.
    """
    stage = describe(p, folder, number, kind, p.train_seeds[0] if seed is None else seed)
    if finished(stage):
        watch(metrics(stage))
        return stage
    command = [*launcher(p.train_launcher), "-m", "sm70lib.training.train", str(stage)]
    environment = os.environ | {"SM70_NOTEBOOK": f"{socket.gethostname()}:{os.getpid()}"}
    with open(stage / "log.txt", "a") as log:
        written = log.tell()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(2)
            watch(metrics(stage))
    if process.returncode != 0:
        said = (stage / "log.txt").read_bytes()[written:].decode(errors="replace").strip().splitlines() or ["no output"]
        why = no_space(stage) if process.returncode == NO_SPACE else next(
            (line for line in said if line.startswith("error: ")), said[-1])  # launchers have the last word
        starved = any(mark in line for line in said for mark in NO_MEMORY)
        if process.returncode in KILLED or starved:
            why = f"memory ran out: {_less(p, folder, number, kind)} ({why})"
        raise StudyError(f"training stopped with exit code {process.returncode}: {why} "
                         f"(all of it: {stage / 'log.txt'})")
    watch(metrics(stage))
    return stage


def describe(p, folder: Path, number: int, kind: str, seed: int) -> Path:
    """Writes what the trainer's process is to do, `stage.json`, and returns the stage's folder.

    A finished stage is left as it is. Raises StudyError where the folder holds something else.
    """
    stage, before = (keys.stage_folder(p, folder, n, seed) for n in (number, number - 1))
    key = keys.of_stage(p, folder, number, seed)
    _require_same(stage, key)
    if not finished(stage):
        write_json(stage / "stage.json", {
            "study_folder": str(folder), "kind": kind, "number": number, "seed": seed, "key": key,
            "params": p.model_dump(),
            "start": str(before / "adapter") if number > 1 else None})
    return stage


def finished(stage: Path) -> bool:
    """Whether a stage's adapter is in place, and marked as whole."""
    return (stage / "done.json").exists() and (stage / "adapter").is_dir()


def _require_same(stage: Path, key: keys.Key) -> None:
    """Refuses to go on with a stage folder in which something else was trained."""
    # A folder of an earlier version has no key; that of 03 as a whole was looked at before.
    was = keys.read(stage / "stage.json").get("key", key)
    differs = keys.difference(was, key)
    if differs and (finished(stage) or any(stage.glob("checkpoint-*"))):
        raise StudyError(f"{stage} was trained with something else ({differs}), and nothing is trained "
                         "over it: make 03 again (--fresh 03, which moves it aside), or give the new "
                         "training a study of its own (-p study NAME --from OLD)")


def _less(p, folder: Path, number: int, kind: str) -> str:
    """What the plan would change for this stage on this machine."""
    from sm70lib.models import budget, loading
    from sm70lib.study import memory
    base, there = loading.located(folder), memory.at_hand()
    needed = memory.rounded_up(budget.needed(base, p, kind, number > 1))
    change = budget.less(base, p, there.gb * memory.GB, kind, number > 1)
    return (f"{kind} needs {memory.words(needed)} by the plan, and there are "
            f"{memory.words(there.gb)} in {there.where}; {change}")


def launcher(line: str) -> list[str]:
    """The command in front of `-m sm70lib.training.train`, looked for beside this interpreter first (`python` is this one).

    Raises StudyError where there is no such program.
    """
    words = shlex.split(line)
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    if not (found := shutil.which(words[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")):
        raise StudyError(f"train_launcher: there is no program {words[0]}; give python, torchrun or accelerate launch")
    return [found, *words[1:]]


def metrics(stage: Path) -> pd.DataFrame:
    """What the trainer logged so far: step, loss, eval_loss (nats per target token), learning_rate, ..."""
    path = stage / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return pd.DataFrame([json.loads(line) for line in lines if line.endswith("}")])


def publish(stage: Path, adapter: Path) -> None:
    """Copies a stage's adapter, whole, to where the next notebooks look for the study's last one."""
    if adapter.is_dir() and digest(adapter) == digest(stage / "adapter"):
        return
    scratch = adapter.with_name(f"{adapter.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(stage / "adapter", scratch)
    shutil.rmtree(adapter, ignore_errors=True)
    os.replace(scratch, adapter)


# ---- the trainer's process ------------------------------------------------------------------------


def main(stage: Path) -> int:
    """Trains the stage that `stage.json` describes; 0 when its adapter is in place.

    Of several processes only the first locks, cleans up, writes and finishes; the folder must be one that
    all of them see.
    """
    from accelerate import PartialState

    from sm70lib.models import loading
    from sm70lib.training import callbacks
    description = json.loads((stage / "stage.json").read_text())
    processes = PartialState(cpu=loading.device().type == "cpu")
    with _alone(stage) if processes.is_main_process else nullcontext():
        done = finished(stage)
        if processes.is_main_process and not done:
            forget_after(stage, callbacks.last_checkpoint(stage))
        processes.wait_for_everyone()
        if not done:
            _train(stage, Path(description["study_folder"]), SimpleNamespace(**description["params"]),
                   SimpleNamespace(**description))
    return 0


def _alone(stage: Path):
    """Holds the stage's lock; an orphan of a killed notebook gives it up at its next step, a watched trainer never."""
    try:
        return FileLock(stage / "lock").acquire(timeout=60)
    except Timeout:
        raise StudyError(f"another process trains in {stage}: wait for it or end it, then run again") from None


def _train(stage: Path, folder: Path, p, how) -> None:
    from datasets import disable_caching

    from sm70lib.models import loading
    from sm70lib.training import callbacks
    disable_caching()  # TRL's maps would leave files in data/train and change its digest
    trainer = build(p, loading.located(folder), *rows_of(how.kind, folder, p, how.number), stage, how)
    checkpoint = callbacks.last_checkpoint(stage)
    if not trainer.is_fsdp_enabled:  # there a weight is in pieces until training starts, and no process has it whole
        trainer.add_callback(callbacks.FirstStep(stage))
        if checkpoint is None:
            callbacks.rehearse(trainer)
    with progress(trainer.args.max_steps, "step", stage.name) as bar:
        for callback in (callbacks.Metrics(stage / "metrics.jsonl", bar), callbacks.Orphan(), callbacks.Seal()):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if callbacks.notebook_gone():
        sys.exit(callbacks.ORPHANED)
    _finish(trainer, stage, p.data_template)


def rows_of(kind: str, folder: Path, p, number: int) -> tuple:
    """A stage's rows to train on and rows held back: sft has its own, others give `data_holdout`, a tenth at most.

    A round of dpo (`number` is the stage's) reads the sources that `dpo_rounds` gives it, and those it gives to none.
    Raises StudyError where there is no such data, or not in the columns that READS names.
    """
    from datasets import load_from_disk
    name, columns = READS[kind]
    if not (folder / name).is_dir():
        raise StudyError(f"stage {kind} reads {name}, which is not there: name its sources and run 01_data")
    rows = load_from_disk(folder / name)
    if missing := [column for column in columns if column not in rows.column_names]:
        raise StudyError(f"{name} has the columns {', '.join(rows.column_names)}, and stage {kind} needs "
                         f"{', '.join(missing)}: run 01_data again (--fresh 01)")
    if kind == "sft":
        return rows.select_columns(columns), load_from_disk(folder / "data/holdout").select_columns(columns)
    if kind == "dpo":
        turn = p.train_stages[:number].count("dpo")
        rows = rows.select([n for n, name in enumerate(rows["source"]) if p.dpo_rounds.get(name, turn) == turn])
        if not len(rows):
            raise StudyError(f"dpo_rounds leaves round {turn} without a pair: give it a source or drop the round")
    chosen = set(random.Random(p.seed).sample(range(len(rows)), min(p.data_holdout, len(rows) // 10)))
    kept = [n for n in range(len(rows)) if n not in chosen]
    return tuple(rows.select(part).select_columns(columns) for part in (kept, sorted(chosen)))


def build(p, base: str, rows, holdout, stage: Path, how):
    """TRL's trainer on the quantised base, with a fresh LoRA adapter or the one of the stage before (`how.start`).

    `rows` and `holdout` are tokenised, with nothing else that counts: TRL pads them, packs them and never
    looks for a mask. DPO's reference is a frozen copy of the adapter that it starts from.
    """
    import trl.trainer.utils
    from peft import LoraConfig

    from sm70lib.models import loading
    from sm70lib.training import callbacks
    # Without Triton TRL puts every position through the head, lest another number of targets be compiled anew. A CPU
    # compiles nothing: with targets alone, as on a GPU, the tiny study's tuning takes two thirds of the time.
    trl.trainer.utils._use_triton = lambda device: True
    if (tokens := callbacks.longest(rows)[1]) > p.data_max_length:  # TRL would cut its end off, and its EOS with it
        raise StudyError(f"a row of {READS[how.kind][0]} has {tokens} tokens, more than data_max_length "
                         f"{p.data_max_length}: run 01_data again (--fresh 01)")
    lora = None if how.start else LoraConfig(
        r=p.lora_r, lora_alpha=p.lora_alpha, lora_dropout=p.lora_dropout, target_modules=p.lora_targets,
        use_rslora=p.lora_rslora, use_dora=p.lora_dora, task_type="CAUSAL_LM")
    loaded = loading.load(base, p, how.start, trainable=True)
    if getattr(p, f"{how.kind}_packing", False):
        loaded.set_attn_implementation("packed")
    exact = {name: weight.data for name, weight in loaded.named_parameters() if weight.requires_grad and how.start}
    trainer = (callbacks.PairTrainer if how.kind == "dpo" else trl.SFTTrainer)(
        model=loaded, args=config(p, how, stage, len(holdout) > 0), peft_config=lora, train_dataset=rows,
        eval_dataset=holdout if len(holdout) else None, processing_class=loading.load_tokenizer(base))
    for layer in () if loading.sharded() else trainer.model.modules():  # FSDP: a weight is whole in its own call alone
        layer.__class__ = loading.AddedInPlace if type(layer) is loading.Linear4bit else layer.__class__
    if p.lora_dtype == "fp32":  # TRL made them bf16, and a resumed run would read them back as fp32: not the same run
        for name, weight in trainer.model.named_parameters():
            if weight.requires_grad:
                weight.data = exact.get(name, weight.data).float()
    # A checkpoint comes back in the type that it was saved in: bf16 adapters would return as fp32, twice the size.
    trainer.model.load_adapter = partial(trainer.model.load_adapter, autocast_adapter_dtype=False)
    return trainer


def config(p, how, stage: Path, evaluates: bool):
    """The stage's parameters in TRL's words; what TRL would choose by itself is said explicitly."""
    from trl import DPOConfig, SFTConfig

    from sm70lib.models import loading
    own = SimpleNamespace(**{name[4:]: value for name, value in vars(p).items() if name.startswith(f"{how.kind}_")})
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    accumulation, rest = divmod(own.batch_size, p.train_micro_batch_size * world_size)
    if rest or not accumulation:
        raise StudyError(f"{how.kind}_batch_size {own.batch_size} is no multiple of train_micro_batch_size "
                         f"{p.train_micro_batch_size} times {world_size} processes: change one of the two")
    kind, further = (DPOConfig, {"beta": own.beta}) if how.kind == "dpo" else (SFTConfig, {"packing": own.packing})
    return kind(
        output_dir=str(stage), max_steps=own.steps, per_device_train_batch_size=p.train_micro_batch_size,
        per_device_eval_batch_size=p.train_micro_batch_size, gradient_accumulation_steps=accumulation,
        learning_rate=own.lr, lr_scheduler_type=own.scheduler, warmup_steps=round(own.warmup * own.steps),
        weight_decay=own.weight_decay, max_grad_norm=own.max_grad_norm, optim=own.optimizer, seed=how.seed,
        data_seed=how.seed, max_length=p.data_max_length, bf16=p.quant_compute_dtype == "bfloat16",
        gradient_checkpointing=p.train_gradient_checkpointing, eval_strategy="steps" if evaluates else "no",
        eval_steps=max(1, own.steps // 6), logging_steps=max(1, own.steps // 60), save_strategy="steps",
        save_steps=p.train_save_steps, save_total_limit=2, ddp_find_unused_parameters=False, report_to=[],
        logging_nan_inf_filter=False,  # else a loss of NaN is logged as the mean of the others
        use_cpu=loading.device().type == "cpu", disable_tqdm=True, **further)


def forget_after(stage: Path, checkpoint: Path | None) -> None:
    """Drops the metrics of steps that will be trained again."""
    step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    rows = metrics(stage)
    kept = rows[rows["step"] <= step] if len(rows) else rows
    (stage / "metrics.jsonl").write_text("".join(
        json.dumps(row.dropna().to_dict()) + "\n" for _, row in kept.iterrows()))


def _finish(trainer, stage: Path, template: str) -> None:
    """Puts the adapter in place by one rename and marks the stage as done after it; process 0 does.

    Beside the adapter's weights stands the `template` that its rows were in.
    """
    from safetensors.torch import load_file

    from sm70lib.corpus import prompts
    scratch = stage / "adapter.part"
    if trainer.is_fsdp_enabled:
        trainer.save_model(str(scratch))  # gathers the pieces, so every process takes part
    if not trainer.is_world_process_zero():
        return
    if not trainer.is_fsdp_enabled:
        trainer.model.save_pretrained(scratch, selected_adapters=["default"])
    weights = load_file(scratch / "adapter_model.safetensors")
    if empty := [name for name, weight in weights.items() if "lora_B" in name and not weight.any()]:
        raise StudyError(f"{scratch}: {empty[0]} is all zero, so nothing was learned there; raise the learning rate")
    prompts.leave_digest(scratch, template)
    shutil.rmtree(stage / "adapter", ignore_errors=True)
    os.replace(scratch, stage / "adapter")
    write_json(stage / "done.json", {"steps": trainer.state.global_step, "world_size": trainer.args.world_size})


def no_space(stage: Path) -> str:
    """The sentence for a write that failed; said by the notebook too, as a full disk takes no log either."""
    return (f"error: writing below {stage} failed: free some space and run again; the last complete checkpoint is kept "
            "and goes on")


def _writing(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        word in str(error) for word in ("inline_container", "writing file", "os error"))  # of torch and safetensors


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
