"""Tokens and labels: the single place where a prompt and its response become what the model trains on."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, Features, List, Value, disable_progress_bars
from datasets.exceptions import DatasetGenerationError

from sm70lib import prompts
from sm70lib.params import StudyError
from sm70lib.sources import Defect, Row

IGNORED = -100  # the label that the loss skips


@dataclass(frozen=True)
class Encoded:
    """One training row: `labels` repeats `input_ids` where the loss counts; `cut` input tokens are gone."""

    input_ids: list[int]
    labels: list[int]
    cut: int = 0


def encode(prompt: str, response: str, tokenizer, max_length: int, overlong: str = "cut",
           loss: str = "response", middle: tuple[int, int] = (0, 0)) -> Encoded | str:
    """BOS, prompt, response and EOS as tokens with their labels, or the reason why the row cannot be used.

    Prompt and response are tokenised apart and joined, so the mask needs no search. A row of more than
    `max_length` tokens is unusable (`overlong` drop) or loses the end of its input, which stands at
    `prompt[slice(*middle)]` (cut); headers and response stay whole. `loss` is response or all; a row without
    prompt (plain text) trains on all its tokens. Raises StudyError if the tokenizer lacks BOS or EOS.
    """
    return encode_batch([(prompt, response, middle)], tokenizer, max_length, overlong, loss)[0]


def encode_batch(texts: list[tuple[str, str, tuple[int, int]]], tokenizer, max_length: int, overlong: str,
                 loss: str) -> list[Encoded | str]:
    """`encode` for many (prompt, response, middle) at once, with one call of the tokenizer."""
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise StudyError(f"base_model: the tokenizer {tokenizer.name_or_path!r} lacks a BOS or an EOS token; "
                         "choose a base that has both.")
    tokens = _tokens(tokenizer, [text[0] for text in texts] + [text[1] for text in texts])["input_ids"]
    encoded = []
    for text, prompt, response in zip(texts, tokens, tokens[len(texts):]):
        kept, room = prompt, max_length - len(response) - 2
        if overlong == "cut" and 0 <= room < len(prompt):
            kept = _cut(tokenizer, text[0], *text[2], room)
        encoded.append(_unusable(kept, response, room)
                       or _join(tokenizer, kept, response, loss, len(prompt) - len(kept)))
    return encoded


def _unusable(prompt: list[int], response: list[int], room: int) -> str | None:
    if not response:
        return "response without a token"
    if room < 0:
        return "response longer than data_max_length"
    return "prompt too long for data_max_length" if len(prompt) > room else None


def _join(tokenizer, prompt: list[int], response: list[int], loss: str, cut: int) -> Encoded:
    ids = [tokenizer.bos_token_id, *prompt, *response, tokenizer.eos_token_id]
    assert tokenizer.bos_token_id not in ids[1:-1], "a row has exactly one BOS, at its start"
    masked = 1 + len(prompt) if loss == "response" else 1  # nothing comes before BOS that could predict it
    return Encoded(ids, [IGNORED] * masked + ids[masked:], cut)


def _tokens(tokenizer, texts: list[str], **options):
    # split_special_tokens: a "</s>" inside a data field stays text, and ends or starts nothing
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False,
                     verbose=False, **options)


def _cut(tokenizer, prompt: str, start: int, end: int, room: int) -> list[int]:
    """The prompt's tokens after taking the end of its input (characters start to end) off, token by token."""
    while True:  # tokens may merge anew at the seam, so once is not always enough
        found = _tokens(tokenizer, [prompt], return_offsets_mapping=True)
        tokens, offsets = found["input_ids"][0], found["offset_mapping"][0]
        if (over := len(tokens) - room) <= 0 or start == end:
            return tokens
        inside = [first for first, _ in offsets if start <= first < end]
        seam = inside[-over] if over <= len(inside) else start
        prompt, end = prompt[:seam] + prompt[end:], seam


def write(rows: Iterable[Row], folder: Path, tokenizer, template: str, holdout: int, seed: int,
          defects: list[Defect], **how) -> pd.DataFrame:
    """Encodes rows as they stream by into `<folder>/train` and `<folder>/holdout` (datasets in Arrow).

    Columns: input_ids, labels, source. `how`: max_length, overlong, loss of `encode`; `holdout` rows, drawn
    by `seed`, are kept back; unusable rows are appended to `defects`. Returns one line per usable row:
    source, tokens, targets (tokens with a label), cut. The same rows give the same bytes. Raises StudyError
    if there are not more than `holdout` usable rows.
    """
    disable_progress_bars()
    ids = List(Value("int32"))
    features = Features({"input_ids": ids, "labels": ids, "source": Value("string")})
    lines, cache = [], str(folder / "cache")
    for old in (cache, folder / "train", folder / "holdout"):
        shutil.rmtree(old, ignore_errors=True)
    stream = _stream(rows, tokenizer, template, defects, lines, how)
    if (first := next(stream, None)) is None:
        raise StudyError("data_sources: not one row is left that can be trained on; see the audit's table.")
    try:  # with a fingerprint of its own the result does not depend on how the generator pickles
        data = Dataset.from_generator(lambda: chain([first], stream), features, cache, fingerprint="sm70")
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None
    if len(data) <= holdout:
        raise StudyError(f"data_holdout: {holdout} rows cannot be kept back of {len(data)} usable; lower it.")
    back = np.sort(np.random.default_rng(seed).choice(len(data), holdout, replace=False))
    data.select(np.setdiff1d(np.arange(len(data)), back)).save_to_disk(folder / "train")
    data.select(back).save_to_disk(folder / "holdout", num_shards=1)  # also when it is empty
    shutil.rmtree(cache)
    return pd.DataFrame(lines, columns=["source", "tokens", "targets", "cut"])


def _stream(rows: Iterable[Row], tokenizer, template: str, defects: list[Defect], lines: list[tuple],
            how: dict) -> Iterator[dict]:
    rows = iter(rows)
    while batch := list(islice(rows, 1000)):
        texts = [(prompts.render(template, row.instruction, row.input),
                  prompts.response(template, row.output) if row.instruction or row.input else row.output,
                  prompts.span(template, row.instruction, row.input)) for row in batch]
        for row, found in zip(batch, encode_batch(texts, tokenizer, **how)):
            if isinstance(found, str):
                defects.append(Defect(row.source, row.file, row.row, found, "length"))
                continue
            targets = len(found.labels) - found.labels.count(IGNORED)
            lines.append((row.source, len(found.input_ids), targets, found.cut))
            yield {"input_ids": found.input_ids, "labels": found.labels, "source": row.source}


def show(input_ids: list[int], labels: list[int], tokenizer) -> pd.DataFrame:
    """One line per token: its id, its text, and the text of its label (empty where the loss skips it)."""
    text = [tokenizer.decode([token]) for token in input_ids]
    label = ["" if label == IGNORED else tokenizer.decode([label]) for label in labels]
    return pd.DataFrame({"token": input_ids, "text": text, "label": label})
