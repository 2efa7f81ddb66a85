"""The base of a study: a small Llama trained from scratch, or the address of an existing model."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from sm70lib import sources, tiny
from sm70lib.corpus import chat, templates
from sm70lib.corpus.templates import CHAT
from sm70lib.corpus.tokens import prompt_ids, response_ids
from sm70lib.models import loading, local
from sm70lib.models.request import Request
from sm70lib.sizes.shapes import made_here
from sm70lib.sources import Row
from sm70lib.steps import weights
from sm70lib.steps.keys import read
from sm70lib.steps.steps import progress, write_json
from sm70lib.tiny.world import Fact, Options, World, opening
from sm70lib.training import watch

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
TOGETHER = 32  # facts that are asked in one forward pass


def documents(p, root: Path) -> list[str]:
    """Reads the texts of the sources in `base_text` and shuffles them by `seed`.

    An instruction row becomes the text that tuning would show. The base of a real study therefore
    reads real questions. There are no texts if `base_model` names a model.
    """
    if p.base_model:
        return []
    rows = chain.from_iterable(sources.read(name, root, defects=[]) for name in p.base_text)
    texts = [_text(p.data_template, row) for row in rows]
    random.Random(p.seed).shuffle(texts)
    return texts


def _text(template: str, row: Row) -> str:
    """A row as running text, for a base that has no tokenizer yet."""
    if template != CHAT or not row.instruction + row.input:
        return templates.render(template, row.instruction, row.input) + row.output
    turns = (*chat.conversation(row), ("assistant", row.output))
    return "\n".join(f"{speaker}: {said}" for speaker, said in turns)


def tokenizer(p, documents: list[str], folder: Path) -> PreTrainedTokenizerFast:
    """Saves the tokenizer of the base to `folder` and returns it.

    It is a new byte-level BPE tokenizer, or the tokenizer of `base_model` if the study names one.
    If the base in the parent folder is finished, the saved tokenizer is returned.
    """
    if _finished(folder.parent) and folder.is_dir():
        return loading.load_tokenizer(folder)
    if p.base_model:
        chosen = loading.load_tokenizer(p.base_model)
        if p.data_template == CHAT:
            chat.Chat(chosen)  # a base without a chat template is refused now, not in 01
    else:
        chosen = _new_tokenizer(p, documents)
    chosen.save_pretrained(folder)
    return chosen


def _new_tokenizer(p, documents: list[str]) -> PreTrainedTokenizerFast:
    """Trains a tokenizer with `<s>`, `</s>` and `<pad>`.

    It adds no BOS by itself, because `sm70lib.corpus.tokens` is the one place that does.
    """
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        documents,
        vocab_size=p.base_vocab_size,
        special_tokens=[BOS, EOS, PAD],
        show_progress=False,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(bpe.to_str()),
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        chat_template=chat.PLAIN if p.data_template == CHAT else None,
        clean_up_tokenization_spaces=False,
    )


def base(p, documents: list[str], tokenizer, folder: Path) -> None:
    """Trains the base into `folder/model`, unless the study names an existing model.

    `folder/base.json` says where the model is, how many weights it has if it was trained here, and
    what it was made from if it lies in the models folder. It is written last. If the base is
    complete already, nothing is done.
    """
    if _finished(folder):
        return
    about = {"model": p.base_model or "base/model"}
    if made_from := weights.made_from(about["model"]):
        about["made_from"] = made_from
        print(f"{p.base_model}: {made_from.get('note', made_from)}")
    if not p.base_model:
        llama = small_llama(p, tokenizer)
        about["weights"] = llama.num_parameters()
        if p.data_root == "world":
            about["wording"] = tiny.wording(p.world_requests)
        train(llama, blocks(documents, tokenizer, p.base_length), p, folder)
        tokenizer.save_pretrained(folder / "model")
    write_json(folder / "base.json", about)


def _finished(folder: Path) -> bool:
    """Whether the base below `folder` is complete: `base.json`, and the model if trained here."""
    name = read(folder / "base.json").get("model")
    if name == "base/model":
        return (folder / "model").is_dir()
    return name is not None


def blocks(documents: list[str], tokenizer, length: int) -> Dataset:
    """Joins documents, each between BOS and EOS, and cuts them into rows of `length` tokens.

    A shorter last row is left out.
    """
    ids = tokenizer(documents, add_special_tokens=False)["input_ids"]
    framed = ([tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in ids)
    stream = list(chain.from_iterable(framed))
    starts = range(0, len(stream) - length + 1, length)
    rows = [stream[start : start + length] for start in starts]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


def small_llama(p, tokenizer) -> LlamaForCausalLM:
    """A Llama of the study's size with weights drawn by `seed` and tied embeddings."""
    set_seed(p.seed)
    config = made_here(p)
    config.vocab_size = len(tokenizer)
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    return LlamaForCausalLM(config)


def train(llama: LlamaForCausalLM, rows: Dataset, p, folder: Path) -> None:
    """Trains on the next-token loss for `base_steps` steps.

    Writes `metrics.jsonl` and `model/` below `folder`. Training is in 32 bits: bf16 is a quarter
    faster on a CPU that has it, and ninety times slower on a CPU that has to emulate it.
    """
    arguments = _training_arguments(p, folder)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    with progress(p.base_steps, "step", "pretraining") as bar:
        watchers: list[TrainerCallback] = [watch.Metrics(folder / "metrics.jsonl", bar)]
        trainer = Trainer(model=llama, args=arguments, train_dataset=rows, callbacks=watchers)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    # The old folder is removed and not overwritten: another study may share its file.
    shutil.rmtree(folder / "model", ignore_errors=True)
    llama.float().save_pretrained(folder / "model")


def _training_arguments(p, folder: Path) -> TrainingArguments:
    """Betas, decay and clipping are Meditron's (arXiv 2311.16079, section 4)."""
    return TrainingArguments(
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


def knowledge(world: World | None, folder: Path) -> pd.DataFrame:
    """Counts the facts of each relation that the base completes as a statement.

    The beginning of the statement is followed by four values of the relation, and the likeliest one
    counts; chance is 25 %. The result shows what tuning can build on, because tuning teaches the
    model to answer, not to know. A base from elsewhere has never read this world and should be at
    chance.

    Args:
        world: the world to ask about; None for a study on real data.
        folder: the folder of the base, with `base.json`.

    Returns:
        Columns relation, facts, right_pct (percent); empty if there is no world.
    """
    if world is None:
        return pd.DataFrame(columns=["relation", "facts", "right_pct"])
    model = loading.located(folder.parent)
    llama, words = loading.load(model), loading.load_tokenizer(model)
    rng = random.Random(world.seed)
    options = Options(world.values, rng)
    rows = []
    for start in range(0, len(world.facts), TOGETHER):
        facts = world.facts[start : start + TOGETHER]
        verdicts = _completed(facts, options, llama, words, rng)
        rows += [
            {"relation": fact.relation, "right": right} for fact, right in zip(facts, verdicts)
        ]
    right = pd.DataFrame(rows).groupby("relation", sort=False)["right"]
    table = right.agg(["size", "mean"]).reset_index()
    table["mean"] = (100 * table["mean"]).round(1)
    return table.set_axis(["relation", "facts", "right_pct"], axis=1)


def _completed(
    facts: Sequence[Fact], options: Options, llama, words, rng: random.Random
) -> list[bool]:
    """Whether the right value is the likeliest of four, for each fact."""
    drawn = [options.draw(fact, 4) for fact in facts]
    requests = []
    for fact, (choices, _) in zip(facts, drawn):
        context = prompt_ids([opening(fact, rng)], words)[0]
        values = response_ids([f" {choice}" for choice in choices], words)
        requests.append(Request(context, values))
    likelihoods = local.loglikelihoods(llama, requests)
    return [values.index(max(values)) == answer for values, (_, answer) in zip(likelihoods, drawn)]
