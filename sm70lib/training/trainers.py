"""TRL's trainer for a stage: quantised base and adapter, or the whole model; rows and settings.

TRL 1.16 has no public way to three things, and the library uses its private names only here:
PairTrainer, _score_targets_alone, and the count of tokens (Counted, uncount).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import trl.trainer.utils
from peft import LoraConfig
from torch.distributed.fsdp import fully_shard
from transformers import Trainer, TrainerCallback
from trl import DPOTrainer, SFTTrainer

from sm70lib.models import loading, packed
from sm70lib.models.proof import PLAIN, prove_training
from sm70lib.parameters.stages import READS, STAGES
from sm70lib.sizes import shapes
from sm70lib.study.params import StudyError
from sm70lib.study.used import trains_all
from sm70lib.training.methods import METHODS
from sm70lib.training.rows import highest, longest
from sm70lib.training.settings import config, precision, prepared, require_batches, stages_from


class PairTrainer(DPOTrainer):
    """DPO on pairs that 01_data has tokenised.

    TRL would tokenise text again, with another BOS and other seams between prompt and answer.
    """

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


FIRST_READS = "FSDP_CPU_RAM_EFFICIENT_LOADING"  # set by accelerate, read by transformers
FULL = {"fp32": torch.float32, "bf16": torch.bfloat16}  # types of `full_dtype`
TRAINERS = {trainer.__name__: trainer for trainer in (SFTTrainer, PairTrainer)}


def build(p, base: str, rows, holdout, stage: Path, how) -> Trainer:
    """TRL's trainer of a new LoRA adapter on the base, of that of the stage before, or of a model.

    The reference of DPO is a frozen copy of the adapter or the model that the stage starts from.

    Args:
        p: The study's parameters.
        base: Folder or hub name of the base.
        rows: Tokenised rows to train on. TRL pads them; it uses no mask of theirs.
        holdout: Tokenised rows to evaluate on; may be empty.
        stage: The stage's folder.
        how: The stage: its `kind`, its `seed`, and `start`, what to go on from or None.

    Raises:
        StudyError: If a row is longer than `data_max_length` or has a token that the base does not
            know; or if, in this stage or a coming one, a batch cannot be divided or the base cannot
            read packed rows.
    """
    _score_targets_alone()
    method = METHODS[how.kind]
    _refuse_long_rows(rows, READS[STAGES[how.kind].reads][0], p)
    require_batches(p, how.kind)
    adapter = None if how.start or trains_all(p) else _new_adapter(p, base)
    loaded = _whole(base, p, how) if trains_all(p) else _with_adapter(base, p, how)
    words = _words(base, loaded, rows)
    _prove_packing(loaded, base, p, how.kind)
    if getattr(p, f"{how.kind}_packing", False):
        packed.enter(loaded)  # each row of a packed sequence sees itself alone
    exact = _trainable_weights(loaded) if how.start else {}
    settings = config(p, how, stage, len(holdout) > 0)
    trainer = TRAINERS[method.trainer](
        model=loaded,
        args=settings,
        peft_config=adapter,
        train_dataset=prepared(rows, settings),
        eval_dataset=prepared(holdout, settings) if len(holdout) else None,
        processing_class=words,
        **_reference(base, p, how),
    )
    if trains_all(p):
        return trainer
    if p.lora_dtype == "fp32":
        _train_in_32_bits(trainer.model, exact)
    _reload_in_saved_type(trainer.model)
    return trainer


def _with_adapter(base: str, p, how):
    return loading.load(base, p, how.start, trainable=True)


def _whole(base: str, p, how):
    """The model that a stage with all weights starts from, in the type that they are trained in."""
    return loading.load(how.start or base, dtype=FULL[p.full_dtype])


def _reference(base: str, p, how) -> dict:
    """The reference of a stage with all weights, if it needs one; TRL copies that of an adapter.

    TRL would load one too, but with any kind of weights and code. Under FSDP every process has to
    read it, as TRL does not hand the pieces of the first process round; and it is cut up by layers
    here, as TRL would gather all of it for each batch.
    """
    if not trains_all(p) or not STAGES[how.kind].reference:
        return {}
    with _read_by_every_process():
        reference = _whole(base, p, how)
    if loading.sharded():
        for layer in reference.get_decoder().layers:
            fully_shard(layer, mp_policy=precision(p))
        fully_shard(reference, mp_policy=precision(p))
    return {"ref_model": reference}


@contextmanager
def _read_by_every_process() -> Iterator[None]:
    before = os.environ.pop(FIRST_READS, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[FIRST_READS] = before


def _score_targets_alone() -> None:
    """Makes TRL put targets alone through the head, on a CPU too.

    Without Triton, TRL puts every position through it, because otherwise each new number of targets
    would be compiled anew. A CPU compiles nothing: with the targets alone, as on a GPU, tuning the
    tiny study takes two thirds of the time.
    """
    trl.trainer.utils._use_triton = lambda device: True


class Counted(TrainerCallback):
    """Goes on counting tokens where a checkpoint stopped; TRL would begin at 0 again.

    Args:
        trainer: TRL's trainer.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        counts = [row["num_tokens"] for row in state.log_history if "num_tokens" in row]
        if counts:
            self.trainer._total_train_tokens = int(counts[-1])


def uncount(trainer: Trainer) -> None:
    """Makes a trainer forget what it has counted: tokens, and means for its next log."""
    trainer._metrics["train"].clear()
    trainer._total_train_tokens = 0


def _refuse_long_rows(rows, source: str, p) -> None:
    """Raises StudyError where TRL would cut off the end of a row, and its EOS with it."""
    _, tokens = longest(rows)
    if tokens > p.data_max_length:
        raise StudyError(
            f"a row of {source} has {tokens} tokens, more than data_max_length "
            f"{p.data_max_length}: run 01_data again (--fresh 01)"
        )


def _words(base: str, loaded, rows):
    """The tokenizer that the base is trained with; its pad token is one that the base knows.

    Raises StudyError if rows have a token that the base does not know. Text has none, as 01_data
    sees to that: it would be one that stands around texts, and so in many rows.
    """
    tokenizer = loading.load_tokenizer(base)
    known, top = loaded.get_input_embeddings().weight.shape[0], highest(rows)
    if top >= known:
        raise StudyError(
            f"a row has the token {tokenizer.convert_ids_to_tokens(top)!r}, for which {base} has "
            f"no embedding ({known:,} rows); give the tokenizer of the model, and run 01_data "
            "again (--fresh 01)"
        )
    if tokenizer.pad_token_id >= known:  # it is masked, but looked up
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _prove_packing(loaded, base: str, p, kind: str) -> None:
    """Tries the base with random rows if this stage packs its rows, or a coming one does.

    Raises StudyError where packed rows do not score as they should. A coming stage would find out
    after this one has trained.
    """
    names = [f"{each}_packing" for each in dict.fromkeys(stages_from(p, kind))]
    packing = [name for name in names if getattr(p, name, False)]
    if not packing or loading.sharded():  # FSDP: no weight is whole yet
        return
    found = prove_training(loaded, p.data_max_length)
    packed.leave(loaded)
    if found.way == PLAIN:
        said = " and ".join(packing)
        raise StudyError(
            f"{said}: {base} cannot be trained on packed rows, as {found.reason}; set {said} to "
            "false"
        )


def _new_adapter(p, base: str) -> LoraConfig:
    found = shapes.shape(base, guess=False)
    return LoraConfig(
        r=p.lora_r,
        lora_alpha=p.lora_alpha,
        lora_dropout=p.lora_dropout,
        target_modules=shapes.targets_in(found, p.lora_targets),
        use_rslora=p.lora_rslora,
        use_dora=p.lora_dora,
        task_type="CAUSAL_LM",
    )


def _trainable_weights(model) -> dict[str, torch.Tensor]:
    return {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}


def _train_in_32_bits(model, exact: dict[str, torch.Tensor]) -> None:
    """Gives trainable weights 32 bits, with the values in `exact` where there are some.

    TRL makes them bf16. A resumed run would read them back as fp32, and would not be the same run.
    """
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.data = exact.get(name, weight.data).float()


def _reload_in_saved_type(model) -> None:
    """Makes a checkpoint come back in the type in which it was saved.

    Adapters in bf16 would otherwise return as fp32, at twice the size.
    """
    model.load_adapter = partial(model.load_adapter, autocast_adapter_dtype=False)
