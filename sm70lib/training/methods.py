"""Training methods (cpt, sft, dpo): what each reads, its trainer and its settings."""

from __future__ import annotations

import json
import os
import random
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
from trl import DPOTrainer

from sm70lib.study.params import StudyError
from sm70lib.training.launch import metrics

# What a stage reads below the study's folder, and the columns that its trainer is given.
READS = {"cpt": ("data/text", ["input_ids", "labels"]), "sft": ("data/train", ["input_ids", "labels"]),
         "dpo": ("data/preferences", ["prompt_ids", "chosen_ids", "rejected_ids"])}


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

    from sm70lib.models import loading, lora, packed
    # Without Triton TRL puts every position through the head, lest another number of targets be compiled anew. A CPU
    # compiles nothing: with targets alone, as on a GPU, the tiny study's tuning takes two thirds of the time.
    trl.trainer.utils._use_triton = lambda device: True
    if (tokens := longest(rows)[1]) > p.data_max_length:  # TRL would cut its end off, and its EOS with it
        raise StudyError(f"a row of {READS[how.kind][0]} has {tokens} tokens, more than data_max_length "
                         f"{p.data_max_length}: run 01_data again (--fresh 01)")
    adapter = None if how.start else LoraConfig(
        r=p.lora_r, lora_alpha=p.lora_alpha, lora_dropout=p.lora_dropout, target_modules=p.lora_targets,
        use_rslora=p.lora_rslora, use_dora=p.lora_dora, task_type="CAUSAL_LM")
    loaded = loading.load(base, p, how.start, trainable=True)
    if getattr(p, f"{how.kind}_packing", False):
        loaded.set_attn_implementation(packed.NAME)
    exact = {name: weight.data for name, weight in loaded.named_parameters() if weight.requires_grad and how.start}
    trainer = (PairTrainer if how.kind == "dpo" else trl.SFTTrainer)(
        model=loaded, args=config(p, how, stage, len(holdout) > 0), peft_config=adapter, train_dataset=rows,
        eval_dataset=holdout if len(holdout) else None, processing_class=loading.load_tokenizer(base))
    for layer in () if loading.sharded() else trainer.model.modules():  # FSDP: a weight is whole in its own call alone
        layer.__class__ = lora.AddedInPlace if type(layer) is lora.Linear4bit else layer.__class__
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




class PairTrainer(DPOTrainer):
    """DPO on pairs that `prompts` has tokenised: TRL would tokenise text again, with other BOS and seams."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


def longest(rows) -> tuple[int, int]:
    """Number and tokens of the longest row (of a pair: with its longer answer), counted in Arrow: quick at 800,000."""
    names = [name for name in rows.column_names if name.endswith("_ids")]
    tables = rows.select_columns(names).with_format("arrow").iter(10_000)
    parts = [[pc.list_value_length(table[name]).to_numpy() for name in names] for table in tables]
    sizes = np.concatenate([np.add(first, np.max([0 * first, *others], axis=0)) for first, *others in parts])
    return int(sizes.argmax()), int(sizes.max())
