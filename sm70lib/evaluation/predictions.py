"""Decides which prediction files stay where they are.

A file stays while it is asked for, and while its model, protocol, items and prompts are unchanged.
Other files move to `replaced/04_eval/<first 12 hex digits of their model's digest>/`, and come back
when they match again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from string import hexdigits

from sm70lib.records import damage, shelves
from sm70lib.steps.keys import EVALUATION, mark, read
from sm70lib.steps.steps import digest

IDENTITY = ("model_digest", "protocol_version", "items_digest", "prompts_digest")
CONFIGURED = "adapter_config"  # in a `.meta.json`: the digest of the adapter's configuration
SEAL = "lines_sha256"  # in a `.meta.json`: the digest of the finished file beside it
RESCORED = "batch_1.json"  # for one model: what changed when some items were scored alone


def matches(about: dict, wanted: dict) -> bool:
    """Whether a prediction file's `.meta.json` (`about`) describes the `wanted` predictions.

    One of an earlier version does not say how its adapter was configured. Where 03 made the
    adapter, the mark of 03 does.
    """
    configured = wanted.get(CONFIGURED)
    if about.get(CONFIGURED, configured) != configured:
        return False
    return all(about.get(name) == wanted[name] for name in IDENTITY)


def is_sealed(path: Path, about: dict) -> bool:
    """Whether a prediction file is as it was finished; an unfinished one has no seal yet.

    Nor has one of an earlier version: until it is scored anew, the mark of 04 says what it was.
    """
    return about.get(SEAL) in (None, digest(path))


def rescored_path(folder: Path, model: str) -> Path:
    """The file that tells what changed when items of a model were scored again."""
    return folder / "predictions" / model / RESCORED


def keep_asked(folder: Path, asked: dict[str, set[str]]) -> None:
    """Moves prediction files aside that are no longer asked for.

    Args:
        folder: the study's outputs.
        asked: the names of the runs that are asked for, by model.
    """
    files = set(folder.glob("predictions/*/*.jsonl"))
    for meta in folder.glob("predictions/*/*.meta.json"):
        files.add(_lines(meta))
    for path in sorted(files):
        model = path.parent.name
        if path.stem not in asked.get(model, ()):
            _aside(folder, path, with_model=model not in asked)


def keep_matching(folder: Path, path: Path, wanted: dict) -> None:
    """Moves a prediction file aside if it does not match, and brings back one that does.

    A finished file that is not as it was is put aside too, and is scored again.

    Args:
        folder: the study's outputs.
        path: the prediction file, whether it exists or not.
        wanted: what its `.meta.json` should say.
    """
    about = read(path.with_suffix(".meta.json"))
    if about and matches(about, wanted):
        if path.exists() and not is_sealed(path, about):
            damage.set_aside(folder, EVALUATION, [path], "it is scored again")
        return
    if path.exists() or about:
        _aside(folder, path, with_model=True)
    fresh = mark(folder, EVALUATION, "begun").get("fresh")  # --fresh 04 scores everything again
    if not fresh:
        _back(folder, path, wanted)


def may_match(folder: Path, path: Path) -> bool:
    """Whether there are predictions to compare, in place or among the files moved aside."""
    return path.exists() or path.with_suffix(".meta.json").exists() or any(_stored(folder, path))


def _aside(folder: Path, path: Path, with_model: bool) -> None:
    """Moves a file and its `.meta.json` aside; `with_model` also moves the model's RESCORED."""
    meta = path.with_suffix(".meta.json")
    paths = [path, meta]
    if with_model:
        paths.append(path.with_name(RESCORED))
    paths = [each for each in paths if each.exists()]
    digits = str(read(meta).get("model_digest"))[:12]
    digits = digits if set(digits) <= set(hexdigits) else "unmarked"
    shelves.move(paths, folder, shelves.shelf(folder, EVALUATION, digits, paths))
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _back(folder: Path, path: Path, wanted: dict) -> None:
    """Brings back the newest stored file that matches, if there is one."""
    matching = [
        meta
        for meta in _stored(folder, path)
        if matches(read(meta), wanted) and is_sealed(_lines(meta), read(meta))
    ]
    if not matching:
        return
    meta = max(matching, key=lambda each: os.stat(_lines(each)).st_mtime_ns)
    paths = [_lines(meta), meta]
    rescored = meta.with_name(RESCORED)
    if rescored.exists() and not path.with_name(RESCORED).exists():
        paths.append(rescored)
    shelf = meta.parents[2]
    shelves.move(paths, shelf, folder)


def _stored(folder: Path, path: Path) -> Iterable[Path]:
    """The `.meta.json` of every file of this model and run that was moved aside."""
    pattern = f"replaced/{EVALUATION}/*/predictions/{path.parent.name}/{path.stem}.meta.json"
    return (meta for meta in folder.glob(pattern) if _lines(meta).exists())


def _lines(meta: Path) -> Path:
    """The prediction file that a `.meta.json` belongs to."""
    return meta.with_name(f"{meta.name.removesuffix('.meta.json')}.jsonl")
