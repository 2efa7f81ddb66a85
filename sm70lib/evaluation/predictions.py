"""Which prediction files stay: those still asked for, of the very model, protocol and items.

All others move to `replaced/04_eval/<first 12 hex digits of their model's digest>/`, and come back
when they match.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sm70lib.study import kept
from sm70lib.study.keys import EVALUATION, mark, read

IDENTITY = ("model_digest", "protocol_version", "items_digest", "prompts_digest")
RESCORED = "batch_1.json"  # what scoring some items alone changed, of one model


def matches(about: dict, wanted: dict) -> bool:
    """Whether what stands beside a prediction file is what is wanted."""
    return all(about.get(name) == wanted[name] for name in IDENTITY)


def keep_asked(folder: Path, asked: dict[str, set[str]]) -> None:
    """Moves the files that are no longer asked for aside; `asked`: names of runs by model."""
    there = {
        *folder.glob("predictions/*/*.jsonl"),
        *map(_lines, folder.glob("predictions/*/*.meta.json")),
    }
    for path in sorted(there):
        if path.stem not in asked.get(path.parent.name, ()):
            _aside(folder, path, path.parent.name not in asked)


def keep_matching(folder: Path, path: Path, wanted: dict) -> None:
    """Moves a prediction file that does not match aside, and brings one that does back."""
    about = read(path.with_suffix(".meta.json"))
    if about and matches(about, wanted):
        return
    if path.exists() or about:
        _aside(folder, path, True)
    if not mark(folder, EVALUATION, "begun").get("fresh"):  # --fresh 04 scores all of it again
        _back(folder, path, wanted)


def may_match(folder: Path, path: Path) -> bool:
    """Whether there is anything to compare, here or among what was moved aside."""
    return path.exists() or path.with_suffix(".meta.json").exists() or any(_stored(folder, path))


def _aside(folder: Path, path: Path, with_model: bool) -> None:
    """Moves a file and what stands beside it; `with_model` also what scoring items alone found."""
    meta = path.with_suffix(".meta.json")
    paths = [path, meta, *([path.with_name(RESCORED)] if with_model else [])]
    paths = [one for one in paths if one.exists()]
    digits = read(meta).get("model_digest", "unmarked")[:12]
    kept.move(paths, folder, kept.shelf(folder, EVALUATION, digits, paths))
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _back(folder: Path, path: Path, wanted: dict) -> None:
    found = [meta for meta in _stored(folder, path) if matches(read(meta), wanted)]
    if not found:
        return
    meta = max(found, key=lambda one: os.stat(_lines(one)).st_mtime_ns)
    place, also = meta.parents[2], meta.with_name(RESCORED)
    takes_along = also.exists() and not path.with_name(RESCORED).exists()
    kept.move([_lines(meta), meta, *([also] if takes_along else [])], place, folder)


def _stored(folder: Path, path: Path) -> Iterable[Path]:
    """What stands beside the files of this model and run that were moved aside."""
    pattern = f"replaced/{EVALUATION}/*/predictions/{path.parent.name}/{path.stem}.meta.json"
    return (meta for meta in folder.glob(pattern) if _lines(meta).exists())


def _lines(meta: Path) -> Path:
    return meta.with_name(f"{meta.name.removesuffix('.meta.json')}.jsonl")
