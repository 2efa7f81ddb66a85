"""Merging: writes adapter and base as one plain model, and compares the two token by token.

Memory never holds two copies of the base. The logits of the adapter are kept and its model is
freed before the merged model is made and loaded.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from peft import PeftModel

from sm70lib.models import loading
from sm70lib.records import shelves
from sm70lib.steps import keys
from sm70lib.steps.compared import difference
from sm70lib.steps.keys import TUNING
from sm70lib.steps.steps import write_json
from sm70lib.training.rows import as_text, rows_of

COMPARED = 1024  # target tokens whose logits are kept: 0.5 GB with a vocabulary of 128,000
COLUMNS = ["items", "tokens", "flips", "largest_logit_difference"]


def all_wanted(p, folder: Path) -> pd.DataFrame:
    """Merges the study's adapter into each base of `train_merge`, and compares the results.

    A merged model of the same adapter, base and quantisation is left as it is. One that is out of
    date, or no longer asked for, moves to replaced/. It comes back when it is asked for again.

    Args:
        p: The study's parameters.
        folder: The study's folder.

    Returns:
        One row per base, with the columns that `parity` describes.
    """
    wanted = {into: keys.of_merge(p, folder, into) for into in p.train_merge}
    done = _keep_wanted(folder, wanted)
    missing = [into for into in wanted if into not in done]
    if missing:
        rows = compared_rows(p, folder)
        tuned = logits_of(loading.located(folder), p, folder / "adapter", rows)
    for into in missing:
        merged = _make(p, folder, into)
        comparison = parity(tuned, merged, rows)
        # A model moves to merged/ only when it is complete and was compared.
        (folder / "merged").mkdir(exist_ok=True)
        os.replace(merged, folder / "merged" / into)
        done[into] = {"key": wanted[into], "parity": comparison}
        _note(folder, done)
    return pd.DataFrame({into: done[into]["parity"] for into in wanted}, index=COLUMNS).T


def _keep_wanted(folder: Path, wanted: dict[str, keys.Key]) -> dict[str, dict]:
    """Keeps the wanted merged models that are there, and brings back those that were moved aside.

    All others move aside.
    """
    done = keys.mark(folder, TUNING, "merged")
    for path in sorted(folder.glob("merged/*")):
        record, key = done.get(path.name), wanted.get(path.name)
        if record is None or key is None or difference(record["key"], key):
            _aside(path, folder, record)
    done = {into: record for into, record in done.items() if (folder / "merged" / into).is_dir()}
    for into in wanted.keys() - done.keys():
        record = _back(into, wanted[into], folder)
        if record:
            done[into] = record
    _note(folder, done)
    return done


def _make(p, folder: Path, into: str) -> Path:
    """Merges in a scratch folder, because a kill may leave the model half-written."""
    scratch = folder / "merging"
    shutil.rmtree(scratch, ignore_errors=True)
    merge(loading.located(folder), p, folder / "adapter", into, scratch)
    gc.collect()
    return scratch


def _note(folder: Path, done: dict) -> None:
    """Records what each merged model is made of, unless there is none and never was one."""
    if done or keys.mark(folder, TUNING, "merged"):
        write_json(folder / "steps" / TUNING / "merged.json", done)


def _aside(path: Path, folder: Path, record: dict | None) -> None:
    """Moves a merged model to replaced/, together with its record."""
    mark = keys.short(record["key"]) if record else "unmarked"
    place = shelves.shelf(folder, TUNING, mark, [path])
    if record:
        write_json(place / "merge.json", record)
    shelves.move([path], folder, place)


def _back(into: str, key: keys.Key, folder: Path) -> dict | None:
    """Brings back a merged model of this key that was moved aside.

    Returns its record, or None if there is no such model.
    """
    for place in sorted((folder / "replaced" / TUNING).glob(f"{keys.short(key)}*")):
        record = keys.read(place / "merge.json")
        merged = place / "merged" / into
        was = keys.key_in(place / "merge.json")
        if was and not difference(was, key) and merged.is_dir():
            shelves.move([merged], place, folder)
            shutil.rmtree(place)
            return record
    return None


def merge(base: str, p, adapter: Path, into: str, folder: Path) -> None:
    """Writes base and adapter as one plain model, with its tokenizer.

    This happens on the CPU, with one copy of the base in memory. Merging into four bits is not
    offered: it would quantise the sum once more, and so change it.

    Args:
        base: Folder or hub name of the base.
        p: The study's parameters.
        adapter: The adapter's folder.
        into: `original` is the base as published, which is what SM70's own checkpoints look like.
            `dequantised` is the NF4 base in full precision, on which the adapter was trained.
        folder: Where the merged model is written.
    """
    plain = loading.load(base, p if into == "dequantised" else None, where=torch.device("cpu"))
    if into == "dequantised" and p.quant_type != "none":
        plain = plain.dequantize()
    PeftModel.from_pretrained(plain, adapter).merge_and_unload().save_pretrained(folder)
    loading.load_tokenizer(base).save_pretrained(folder)


def compared_rows(p, folder: Path) -> list[dict]:
    """Held-out rows of the last stage, with COMPARED targets at most.

    A pair counts with its chosen answer.

    Args:
        p: The study's parameters.
        folder: The study's folder.

    Returns:
        Rows with `input_ids` and `labels`, two lists of equal length.
    """
    kind = p.train_stages[-1]
    _, holdout = rows_of(kind, folder, p, len(p.train_stages))
    rows: list[dict] = []
    targets = 0
    for held_out in holdout:
        room = COMPARED - targets
        if room <= 0:
            break
        row = _cut(as_text(held_out), room)
        rows.append(row)
        targets += sum(label >= 0 for label in row["labels"][1:])
    return rows


def _cut(row: dict, room: int) -> dict:
    """The row up to its `room`-th target; the first token is never a target."""
    labels = row["labels"]
    targets = [place for place, label in enumerate(labels) if label >= 0 and place > 0]
    end = targets[:room][-1] + 1 if targets else len(labels)
    return {name: row[name][:end] for name in ("input_ids", "labels")}


@torch.inference_mode()
def logits_of(
    name: str | Path,
    p,
    adapter: Path | None,
    rows: Iterable[dict],
    where: torch.device | None = None,
) -> list[torch.Tensor]:
    """Logits of a model at every target of every row.

    The model is freed before they are returned.

    Args:
        name: Folder or hub name of the model.
        p: The study's parameters, by which the model is quantised; None for full precision.
        adapter: Folder of an adapter, or None.
        rows: Rows with `input_ids` and `labels`.
        where: The device; by default that of this process.

    Returns:
        One tensor `(targets, vocabulary)` per row, in fp32 on the CPU.
    """
    loaded = loading.load(name, p, adapter, where=where)
    per_row = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]]).to(loaded.device)
        is_target = torch.tensor(row["labels"][1:]) >= 0
        logits = loaded(input_ids=ids, use_cache=False).logits[0, :-1]
        per_row.append(logits[is_target.to(logits.device)].float().cpu())
    del loaded
    gc.collect()
    return per_row


def _roomy(folder: Path) -> torch.device:
    """The GPU if the plain model in a folder fits there, else the CPU."""
    here = loading.device()
    if here.type == "cpu":
        return here
    torch.cuda.empty_cache()
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return here if 1.1 * size < torch.cuda.mem_get_info(here)[0] else torch.device("cpu")


def parity(tuned: list[torch.Tensor], merged: Path, rows: list[dict]) -> dict[str, float]:
    """Compares a merged model with the logits of base and adapter.

    Args:
        tuned: Logits of base and adapter, from `logits_of`.
        merged: The merged model's folder.
        rows: The rows that `tuned` was computed on.

    Returns:
        items (rows), tokens (targets), flips (targets at which the two find different tokens
        likeliest) and largest_logit_difference.
    """
    tokens, flips, largest = 0, 0, 0.0
    others = logits_of(merged, None, None, rows, _roomy(merged))
    for ours, theirs in zip(tuned, others, strict=True):
        tokens += len(ours)
        flips += int((ours.argmax(-1) != theirs.argmax(-1)).sum())
        if len(ours):
            largest = max(largest, (ours - theirs).abs().max().item())
    return {
        "items": len(rows),
        "tokens": tokens,
        "flips": flips,
        "largest_logit_difference": largest,
    }
