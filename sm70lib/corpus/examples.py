"""Rows of each kind as tokenised examples, in Arrow batches."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value

from sm70lib.corpus import templates, tokens
from sm70lib.corpus.chat import Chat, asked
from sm70lib.corpus.findings import Findings
from sm70lib.corpus.selection import HELD
from sm70lib.corpus.templates import CHAT
from sm70lib.corpus.tokens import Encoded
from sm70lib.sources import Row
from sm70lib.study.used import loss_of

BATCH = 1000  # rows that are encoded together, and that share an Arrow batch
IDS = List(Value("int32"))
FEATURES = Features({"input_ids": IDS, "labels": IDS, "source": Value("string")})
PAIRS = Features(
    {"prompt_ids": IDS, "chosen_ids": IDS, "rejected_ids": IDS, "source": Value("string")}
)
TEXT = ["input_ids", "source"]  # columns of running text; its labels are its ids
# Where an example of running text comes from, until duplicates of other shards are dropped
ORIGIN = {"file": Value("string"), "row": Value("int32"), "digest": Value("uint64")}
# Of each row: its tokens, those with a label, and those that were cut from its input
LENGTHS = ["tokens", "targets", "cut"]
UNLIMITED = 10**9  # tokens

Made = list[Encoded] | str  # the examples that a row becomes, or why it cannot be used


def encoded(
    rows: Iterable[Row],
    encoder: Callable[[list[Row]], list[Made]],
    features: Features,
    found: Findings,
    ahead: bool = True,
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Encodes rows in batches.

    Args:
        rows: the rows of one source.
        encoder: makes the examples of a batch, such as those in KINDS.
        features: the columns of the batches.
        found: gets a finding for every row that cannot be used.
        ahead: whether a thread encodes a batch (the tokenizer releases Python's lock) while the
            next one is read and audited; otherwise all is done in one thread.

    Yields:
        An Arrow batch and the lengths of its rows, (rows, 3) in the order of LENGTHS.
    """
    if not ahead:
        for batch in chunks(rows):
            yield _batch(batch, encoder(batch), features, found)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: tuple[list[Row], Future] | None = None
        for batch in chunks(rows):
            coming = batch, pool.submit(encoder, batch)
            if waiting is not None:
                yield _batch(waiting[0], waiting[1].result(), features, found)
            waiting = coming
        if waiting is not None:
            yield _batch(waiting[0], waiting[1].result(), features, found)


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists of at most BATCH."""
    rows = iter(rows)
    while batch := list(islice(rows, BATCH)):
        yield batch


def _batch(
    rows: list[Row], made: list[Made], features: Features, found: Findings
) -> tuple[pa.RecordBatch, np.ndarray]:
    examples: list[Encoded] = []
    for row, result in zip(rows, made):
        if isinstance(result, str):
            found.note(row, result, "length", True)
            continue
        examples += result
        for example in result:
            if example.note:
                found.note(row, example.note, "template", False)
    lengths = [(len(example.input_ids), example.targets, example.cut) for example in examples]
    sizes = np.array(lengths, np.int32).reshape(-1, len(LENGTHS))
    origins = [
        row for row, result in zip(rows, made) if not isinstance(result, str) for _ in result
    ]
    columns = []
    for column in features.arrow_schema:
        if pa.types.is_list(column.type):
            ids = [getattr(example, column.name) for example in examples]
            columns.append(lists(ids, column.type.value_type))
        else:
            values = [getattr(row, column.name) for row in origins]
            columns.append(pa.array(values, column.type))
    return pa.record_batch(columns, schema=features.arrow_schema), sizes


class Question(NamedTuple):
    """A question as rows of a study have it in front of their answers: its text, its token ids."""

    text: str
    ids: list[int]


def question(template: str, tokenizer, instruction: str, input: str) -> Question:
    """A question as a study's rows have it.

    Args:
        template: `data_template`.
        tokenizer: the base's.
        instruction: what is asked.
        input: what it is asked about.
    """
    if template != CHAT:
        text = templates.render(template, instruction, input)
        return Question(text, tokens.prompt_ids([text], tokenizer)[0])
    chat, turns = Chat(tokenizer), asked(instruction, input)
    return Question(chat.prompt(turns), chat.prompt_ids(turns))


def _examples(batch: list[Row], p, tokenizer) -> list[Made]:
    """Instruction rows: prompt and response, or a conversation with all its answers."""
    if p.data_template == CHAT:
        made = _in_chat(batch, tokenizer, p.data_max_length, p.data_overlong, loss_of(p))
        return [result if isinstance(result, str) else [result] for result in made]
    texts = []
    for row in batch:
        prompt = templates.render(p.data_template, row.instruction, row.input)
        response = row.output
        if row.instruction or row.input:  # otherwise the row is running text
            response = templates.response(p.data_template, row.output)
        span = templates.span(p.data_template, row.instruction, row.input)
        texts.append((prompt, response, span))
    made = tokens.encode_batch(texts, tokenizer, p.data_max_length, p.data_overlong, loss_of(p))
    return [result if isinstance(result, str) else [result] for result in made]


def _in_chat(
    batch: list[Row], tokenizer, max_length: int, overlong: str, loss: str
) -> list[Encoded | str]:
    """Rows in the base's chat template; running text stands in none."""
    talks = [row for row in batch if row.instruction or row.input]
    texts = [("", row.output, (0, 0)) for row in batch if not (row.instruction or row.input)]
    in_chat = iter(Chat(tokenizer).encode(talks, max_length, overlong, loss))
    alone = iter(tokens.encode_batch(texts, tokenizer, max_length, overlong, loss) if texts else [])
    return [next(in_chat if row.instruction or row.input else alone) for row in batch]


def _documents(batch: list[Row], p, tokenizer) -> list[Made]:
    """Running text, cut into pieces of `data_max_length`: no part of a long document is lost."""
    if p.data_template == CHAT:
        made = _in_chat(batch, tokenizer, UNLIMITED, "drop", "all")
        whole = [one if isinstance(one, str) else one.input_ids for one in made]
    else:
        prompts = [templates.render(p.data_template, row.instruction, row.input) for row in batch]
        texts = [prompt + row.output for prompt, row in zip(prompts, batch)]
        whole = tokens.documents(texts, tokenizer)
    return [ids if isinstance(ids, str) else tokens.pieces(ids, p.data_max_length) for ids in whole]


def _preferences(batch: list[Row], p, tokenizer) -> list[Made]:
    """Pairs: one prompt with the better and the worse answer.

    If either answer is unusable, so is the pair.
    """
    if p.data_template == CHAT:
        both = [one for row in batch for one in (row, replace(row, output=row.rejected))]
        made = Chat(tokenizer).encode(both, p.data_max_length, "drop", "last")
        return [_pair_or_reason(better, worse) for better, worse in zip(made[::2], made[1::2])]
    texts = []
    for row in batch:
        prompt = templates.render(p.data_template, row.instruction, row.input)
        for answer in (row.output, row.rejected):
            texts.append((prompt, templates.response(p.data_template, answer), (0, 0)))
    made = tokens.encode_batch(texts, tokenizer, p.data_max_length, "drop", "response")
    return [_pair_or_reason(better, worse) for better, worse in zip(made[::2], made[1::2])]


def _pair_or_reason(better: Encoded | str, worse: Encoded | str) -> Made:
    if isinstance(better, str):
        return better
    if isinstance(worse, str):
        return worse
    return [pair_of(better, worse)]


@dataclass(frozen=True, kw_only=True)
class Pair(Encoded):
    """The better row of a pair, and the token ids of prompt and both answers."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def pair_of(better: Encoded, worse: Encoded) -> Pair:
    """Joins two rows with the same prompt into a pair."""
    seam = len(better.input_ids) - better.targets
    return Pair(
        input_ids=better.input_ids,
        labels=better.labels,
        cut=better.cut,
        prompt_ids=better.input_ids[:seam],
        chosen_ids=better.input_ids[seam:],
        rejected_ids=worse.input_ids[seam:],
    )


ENCODERS = {
    "train": _examples,
    HELD: _examples,
    "text": _documents,
    "preferences": _preferences,
}


def features_of(kind: str, tokenizer) -> Features:
    """The columns of a part of this kind, a key of ENCODERS.

    Running text has no labels, as they are its ids, and its ids take two bytes each if the
    tokenizer has no more than 65,536 of them. So 48 billion tokens take 96 GB, and not 384.
    """
    if kind == "preferences":
        return PAIRS
    if kind != "text":
        return FEATURES
    ids = List(Value("uint16" if len(tokenizer) <= 2**16 else "int32"))
    return Features({"input_ids": ids, "source": Value("string"), **ORIGIN})


def lists(rows: list[list[int]], id_type: pa.DataType) -> pa.ListArray:
    """An Arrow column of lists of token ids."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.fromiter(chain.from_iterable(rows), id_type.to_pandas_dtype(), offsets[-1])
    return pa.ListArray.from_arrays(offsets, values)
