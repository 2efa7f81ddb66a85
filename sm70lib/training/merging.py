"""Merging: the adapter written into a base as one plain model, and compared with it token by token.

At no time are two copies of the base in memory: the adapter's logits are kept, and the model is
freed, before the merged one is made and loaded.
"""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import Iterable

import pandas as pd
import torch
from peft import PeftModel

from sm70lib.models import loading
from sm70lib.study import kept, keys
from sm70lib.study.keys import TUNING
from sm70lib.study.steps import write_json
from sm70lib.training import methods

COMPARED = 1024  # target tokens whose logits are kept: 0.5 GB with a vocabulary of 128,000
COLUMNS = ["items", "tokens", "flips", "largest_logit_difference"]


def all_wanted(p, folder: Path) -> pd.DataFrame:
    """Merges the study's adapter into each base of `train_merge`, and compares: one row for each.

    A merged model of the same adapter, base and quantisation is left as it is; one that is not, or
    is asked for no longer, moves to replaced/, and comes back when it is asked for again. Columns
    as `parity` says.
    """
    wanted = {into: keys.of_merge(p, folder, into) for into in p.train_merge}
    done = _kept(folder, wanted)
    missing = [into for into in wanted if into not in done]
    if missing:
        rows = compared_rows(p, folder)
        tuned = logits_of(loading.located(folder), p, folder / "adapter", rows)
    for into in missing:
        merged = _made(p, folder, into)
        found = parity(tuned, merged, rows)
        (folder / "merged").mkdir(exist_ok=True)
        os.replace(merged, folder / "merged" / into)  # what lies there is whole and was compared
        done |= {into: {"key": wanted[into], "parity": found}}
        _note(folder, done)
    return pd.DataFrame({into: done[into]["parity"] for into in wanted}, index=COLUMNS).T


def _kept(folder: Path, wanted: dict[str, keys.Key]) -> dict[str, dict]:
    """The merged models that are there as wanted, or came back; all others have moved aside."""
    done = keys.mark(folder, TUNING, "merged")
    for path in sorted(folder.glob("merged/*")):
        of, now = done.get(path.name), wanted.get(path.name)
        if of is None or now is None or keys.difference(of["key"], now):
            _aside(path, folder, of)
    done = {into: of for into, of in done.items() if (folder / "merged" / into).is_dir()}
    for into in wanted.keys() - done.keys():
        if of := _back(into, wanted[into], folder):
            done[into] = of
    _note(folder, done)
    return done


def _made(p, folder: Path, into: str) -> Path:
    """A merged model in a scratch folder, which a kill may leave half-written."""
    scratch = folder / "merging"
    shutil.rmtree(scratch, ignore_errors=True)
    merge(loading.located(folder), p, folder / "adapter", into, scratch)
    gc.collect()
    return scratch


def _note(folder: Path, done: dict) -> None:
    """Writes what each merged model is made of; where there is none and was none, nothing."""
    if done or keys.mark(folder, TUNING, "merged"):
        write_json(folder / "steps" / TUNING / "merged.json", done)


def _aside(path: Path, folder: Path, of: dict | None) -> None:
    """Moves a merged model to replaced/, with what is known of it."""
    place = kept.shelf(folder, TUNING, keys.short(of["key"]) if of else "unmarked", [path])
    if of:
        write_json(place / "merge.json", of)
    kept.move([path], folder, place)


def _back(into: str, key: keys.Key, folder: Path) -> dict | None:
    """Brings a merged model of this key back, where one was moved aside; what is known of it."""
    for place in sorted((folder / "replaced" / TUNING).glob(f"{keys.short(key)}*")):
        of = keys.read(place / "merge.json")
        if of and not keys.difference(of["key"], key) and (place / "merged" / into).is_dir():
            kept.move([place / "merged" / into], place, folder)
            shutil.rmtree(place)
            return of
    return None


def merge(base: str, p, adapter: Path, into: str, folder: Path) -> None:
    """Writes base and adapter as one plain model, with its tokenizer; on the CPU, in memory once.

    `into` original: the base as published, which is what SM70's own checkpoints look like;
    dequantised: the NF4 base written out, which is what the adapter was trained on. Merging into
    four bits would quantise the sum once more, and move it.
    """
    plain = loading.load(base, p if into == "dequantised" else None, where=torch.device("cpu"))
    if into == "dequantised" and p.quant_type != "none":
        plain = plain.dequantize()
    PeftModel.from_pretrained(plain, adapter).merge_and_unload().save_pretrained(folder)
    loading.load_tokenizer(base).save_pretrained(folder)


def compared_rows(p, folder: Path) -> list[dict]:
    """Held-out rows of the last stage: input_ids and labels with COMPARED targets at most.

    A pair gives its chosen answer.
    """
    *_, kind = p.train_stages
    _, holdout = methods.rows_of(kind, folder, p, len(p.train_stages))
    rows, targets = [], 0
    for row in holdout:
        if kind == "dpo":
            row = {
                "input_ids": row["prompt_ids"] + row["chosen_ids"],
                "labels": [-100] * len(row["prompt_ids"]) + row["chosen_ids"],
            }
        room = COMPARED - targets
        if room <= 0:
            break
        rows.append(_cut(row, room))
        targets += sum(label >= 0 for label in rows[-1]["labels"][1:])
    return rows


def _cut(row: dict, room: int) -> dict:
    """The row up to its `room`-th target."""
    places = [place for place, label in enumerate(row["labels"]) if label >= 0 and place > 0][:room]
    end = places[-1] + 1 if places else len(row["labels"])
    return {name: row[name][:end] for name in ("input_ids", "labels")}


@torch.inference_mode()
def logits_of(
    name: str | Path,
    p,
    adapter: Path | None,
    rows: Iterable[dict],
    where: torch.device | None = None,
) -> list[torch.Tensor]:
    """Logits at every target of every row, `(targets, vocabulary)` in fp32 on the CPU.

    The model is freed before they are returned.
    """
    loaded, found = loading.load(name, p, adapter, where=where), []
    for row in rows:
        asked, ids = torch.tensor(row["labels"][1:]) >= 0, torch.tensor([row["input_ids"]])
        logits = loaded(input_ids=ids.to(loaded.device), use_cache=False).logits[0, :-1]
        found.append(logits[asked.to(logits.device)].float().cpu())
    del loaded
    gc.collect()
    return found


def _roomy(folder: Path) -> torch.device:
    """Where the plain model in a folder fits: the GPU if it has room for it, else the CPU."""
    here = loading.device()
    if here.type == "cpu":
        return here
    torch.cuda.empty_cache()
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return here if 1.1 * size < torch.cuda.mem_get_info(here)[0] else torch.device("cpu")


def parity(tuned: list[torch.Tensor], merged: Path, rows: list[dict]) -> dict[str, float]:
    """A merged model beside the adapter's logits: items, tokens, flips, largest logit difference.

    flips: target positions at which they find different tokens likeliest.
    """
    tokens, flips, largest = 0, 0, 0.0
    for one, other in zip(tuned, logits_of(merged, None, None, rows, _roomy(merged)), strict=True):
        tokens, flips = tokens + len(one), flips + (one.argmax(-1) != other.argmax(-1)).sum().item()
        largest = max(largest, (one - other).abs().max().item() if len(one) else 0.0)
    return {
        "items": len(rows),
        "tokens": tokens,
        "flips": flips,
        "largest_logit_difference": largest,
    }
