"""The base of a study: a small Llama trained from scratch here, or the address of one that exists."""

from __future__ import annotations

import random
import shutil
from itertools import chain
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from sm70lib import sources, tiny
from sm70lib.corpus import templates
from sm70lib.models import loading, local
from sm70lib.study.keys import read
from sm70lib.study.steps import progress, write_json
from sm70lib.tiny.world import Options, World, opening
from sm70lib.training import watch

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def documents(p, root: Path) -> list[str]:
    """Texts of the sources in `base_text`, shuffled by `seed`; none where `base_model` names a model.

    An instruction row becomes the text that tuning would show, so a real study's base reads real questions.
    """
    if p.base_model:
        return []
    rows = [row for name in p.base_text for row in sources.read(name, root, defects=[])]
    found = [
        templates.render(p.data_template, row.instruction, row.input) + row.output for row in rows
    ]
    random.Random(p.seed).shuffle(found)
    return found


def tokenizer(p, documents: list[str], folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with `<s>`, `</s>`, `<pad>`, saved to `folder`; or the given model's own.

    It adds no BOS by itself: `sm70lib.corpus.prompts` is the one place that does. Where the base beside it is
    finished, the tokenizer that is there is returned.
    """
    if _finished(folder.parent) and folder.is_dir():
        return loading.load_tokenizer(folder)
    if p.base_model:
        found = loading.load_tokenizer(p.base_model)
    else:
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            documents,
            vocab_size=p.base_vocab_size,
            special_tokens=[BOS, EOS, PAD],
            show_progress=False,
        )
        found = PreTrainedTokenizerFast(
            tokenizer_object=bpe._tokenizer,
            bos_token=BOS,
            eos_token=EOS,
            pad_token=PAD,
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )
    found.save_pretrained(folder)
    return found


def base(p, documents: list[str], tokenizer, folder: Path) -> None:
    """Trains the base into `folder/model`; `folder/base.json` says where it is, and its size if made here.

    Returns at once where that is done: `base.json` is written last.
    """
    if _finished(folder):
        return
    about = {"model": p.base_model or "base/model"}
    if not p.base_model:
        llama = small_llama(p, tokenizer)
        about["weights"] = llama.num_parameters()
        about |= {"wording": tiny.wording()} if p.data_root == "world" else {}
        train(llama, blocks(documents, tokenizer, p.base_length), p, folder)
        tokenizer.save_pretrained(folder / "model")
    write_json(folder / "base.json", about)


def _finished(folder: Path) -> bool:
    """Whether the base below `folder` is whole: `base.json` is there, and the model if made here."""
    name = read(folder / "base.json").get("model")
    return name is not None and (name != "base/model" or (folder / "model").is_dir())


def blocks(documents: list[str], tokenizer, length: int) -> Dataset:
    """Documents between BOS and EOS, joined and cut into rows of `length` tokens; a shorter last one is left out."""
    ids = tokenizer(documents, add_special_tokens=False)["input_ids"]
    stream = list(
        chain.from_iterable([tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in ids)
    )
    rows = [stream[start : start + length] for start in range(0, len(stream) - length + 1, length)]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


def small_llama(p, tokenizer) -> LlamaForCausalLM:
    """A Llama of the study's size, weights drawn from `seed`; input and output embeddings are tied."""
    set_seed(p.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=p.base_hidden_size,
            num_hidden_layers=p.base_layers,
            num_attention_heads=p.base_heads,
            num_key_value_heads=p.base_kv_heads,
            intermediate_size=p.base_intermediate_size,
            max_position_embeddings=p.base_context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(llama: LlamaForCausalLM, rows: Dataset, p, folder: Path) -> None:
    """Next-token loss for `base_steps` steps; writes `metrics.jsonl` and `model/` below `folder`.

    In 32 bits: bf16 is a quarter faster on a CPU that has it, and ninety times slower on one that has to emulate it.
    Betas, decay and clipping are Meditron's (arXiv 2311.16079, section 4).
    """
    arguments = TrainingArguments(
        output_dir=str(folder / "model"),
        max_steps=p.base_steps,
        per_device_train_batch_size=p.base_batch_size,
        learning_rate=p.base_lr,
        warmup_steps=min(40, p.base_steps // 4),
        lr_scheduler_type="linear",
        weight_decay=0.1,
        adam_beta1=0.9,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        seed=p.seed,
        data_seed=p.seed,
        logging_steps=max(1, p.base_steps // 60),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    with progress(p.base_steps, "step", "pretraining") as bar:
        watchers = [watch.Metrics(folder / "metrics.jsonl", bar)]
        trainer = Trainer(model=llama, args=arguments, train_dataset=rows, callbacks=watchers)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    # Never written in place: another study may share the file.
    shutil.rmtree(folder / "model", ignore_errors=True)
    llama.float().save_pretrained(folder / "model")


def knowledge(world: World | None, folder: Path, batch: int = 32) -> pd.DataFrame:
    """How many facts of each relation the base completes as a statement: columns relation, facts, right_pct.

    Four values of the relation follow the statement's beginning and the likeliest one counts; chance is 25 %.
    What this shows is what tuning can build on: it teaches to answer, not to know. A base from elsewhere has never
    read this world and should be at chance. Empty where there is no world.
    """
    if world is None:
        return pd.DataFrame(columns=["relation", "facts", "right_pct"])
    base = loading.located(folder.parent)
    llama, words = loading.load(base), loading.load_tokenizer(base)
    rng = random.Random(world.seed)
    options, rows = Options(world.values, rng), []
    for start in range(0, len(world.facts), batch):
        facts = world.facts[start : start + batch]
        drawn = [options.draw(fact, 4) for fact in facts]
        asked = [
            local.Request(
                [words.bos_token_id, *_ids(words, opening(fact, rng))],
                [_ids(words, f" {choice}") for choice in choices],
            )
            for fact, (choices, _) in zip(facts, drawn)
        ]
        found = local.loglikelihoods(llama, asked)
        rows += [
            {"relation": fact.relation, "right": values.index(max(values)) == answer}
            for fact, (_, answer), values in zip(facts, drawn, found)
        ]
    table = (
        pd.DataFrame(rows)
        .groupby("relation", sort=False)["right"]
        .agg(["size", "mean"])
        .reset_index()
    )
    return table.assign(mean=(100 * table["mean"]).round(1)).set_axis(
        ["relation", "facts", "right_pct"], axis=1
    )


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
