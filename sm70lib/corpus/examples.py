"""Rows of each kind as tokenised examples."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value

from sm70lib.corpus import templates, tokens
from sm70lib.corpus.audit import Findings
from sm70lib.corpus.tokens import Encoded
from sm70lib.sources import Row

BATCH = 1000  # rows that are encoded, and lie in one Arrow batch
IDS = List(Value("int32"))
FEATURES = Features({"input_ids": IDS, "labels": IDS, "source": Value("string")})
PAIRS = Features(
    {"prompt_ids": IDS, "chosen_ids": IDS, "rejected_ids": IDS, "source": Value("string")}
)
LENGTHS = [
    "tokens",
    "targets",
    "cut",
]  # of a row: all, those with a label, those of its input that are gone


def encoded(
    rows: Iterable[Row], encoder: Callable, features: Features, found: Findings
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Arrow batches and the lengths of their rows; rows that cannot be used become defects.

    While a thread encodes one batch (the tokenizer lets go of Python's lock), the next one is read and audited.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: list[tuple[list[Row], Future]] = []
        for batch in chain(chunks(rows), [None]):
            coming = [(batch, pool.submit(encoder, batch))] if batch else []
            for done, made in waiting:
                yield _batch(done, made.result(), features, found)
            waiting = coming


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while batch := list(islice(rows, BATCH)):
        yield batch


def _batch(
    rows: list[Row], made: list, features: Features, found: Findings
) -> tuple[pa.RecordBatch, np.ndarray]:
    good = []
    for row, one in zip(rows, made):
        if isinstance(one, str):
            found.note(row, one, "length", True)
        else:
            good += one
    sizes = np.array(
        [(len(one.input_ids), one.targets, one.cut) for one in good], np.int32
    ).reshape(-1, 3)
    columns = [lists([getattr(one, name) for one in good]) for name in features if name != "source"]
    columns.append(pa.array([rows[0].source] * len(good), pa.string()))
    return pa.record_batch(columns, schema=features.arrow_schema), sizes


def _examples(batch: list[Row], p, tokenizer) -> list[list[Encoded] | str]:
    """Instruction rows: prompt and response."""
    texts = [
        (
            templates.render(p.data_template, row.instruction, row.input),
            templates.response(p.data_template, row.output)
            if row.instruction or row.input
            else row.output,
            templates.span(p.data_template, row.instruction, row.input),
        )
        for row in batch
    ]
    found = tokens.encode_batch(texts, tokenizer, p.data_max_length, p.data_overlong, p.sft_loss)
    return [one if isinstance(one, str) else [one] for one in found]


def _documents(batch: list[Row], p, tokenizer) -> list[list[Encoded] | str]:
    """Running text, cut into pieces of `data_max_length`: nothing of a long document is lost."""
    texts = [
        (templates.render(p.data_template, row.instruction, row.input) + row.output, (0, 0))
        for row in batch
    ]
    whole = tokens.encode_batch([("", *text) for text in texts], tokenizer, 10**9, "drop", "all")
    return [one if isinstance(one, str) else tokens.pieces(one, p.data_max_length) for one in whole]


def _preferences(batch: list[Row], p, tokenizer) -> list[list[Encoded] | str]:
    """Pairs: one prompt with the better and the worse answer; a pair that is too long is left out whole."""
    texts = [
        (
            templates.render(p.data_template, row.instruction, row.input),
            templates.response(p.data_template, answer),
            (0, 0),
        )
        for row in batch
        for answer in (row.output, row.rejected)
    ]
    found = tokens.encode_batch(texts, tokenizer, p.data_max_length, "drop", "response")
    return [
        next((one for one in pair if isinstance(one, str)), None) or [pair_of(*pair)]
        for pair in zip(found[::2], found[1::2])
    ]


def pair_of(better: Encoded, worse: Encoded) -> SimpleNamespace:
    seam = len(better.input_ids) - better.targets
    return SimpleNamespace(
        **vars(better),
        targets=better.targets,
        prompt_ids=better.input_ids[:seam],
        chosen_ids=better.input_ids[seam:],
        rejected_ids=worse.input_ids[seam:],
    )


KINDS = {
    "train": (FEATURES, _examples),
    "text": (FEATURES, _documents),
    "preferences": (PAIRS, _preferences),
}


def lists(rows: list[list[int]]) -> pa.ListArray:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(
        offsets, np.fromiter(chain.from_iterable(rows), np.int32, offsets[-1])
    )
