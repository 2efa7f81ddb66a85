"""Whether the files of a model's weights are there, whole and in the right format."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sm70lib.inspection import places
from sm70lib.models import loading
from sm70lib.study.params import StudyError

INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs"  # how a file begins that Git LFS has not fetched


def check(name: str, folder: Path, key: str) -> None:
    """Looks at the files of a model's weights, of which only the headers are read.

    Args:
        name: Folder or hub name of the model.
        folder: The folder that `places.model` gave for it.
        key: The parameter that names it.

    Raises:
        StudyError: If there are no safetensors, or one of the files is missing or damaged.
    """
    if Path(loading.existing(name)).is_dir():
        _check_files(name, folder, key)
        return
    listed = places.weights_on_hub(name)
    if listed is not None:
        _require_safetensors(name, listed, key)


def _check_files(name: str, folder: Path, key: str) -> None:
    present = sorted(path.name for path in folder.iterdir())
    _require_safetensors(name, present, key)
    wanted = [path for path in present if path.endswith(".safetensors")]
    if INDEX in present:
        places_of = json.loads((folder / INDEX).read_text())["weight_map"]
        wanted = sorted(set(places_of.values()))
    for file in wanted:
        if file not in present:
            raise StudyError(
                f"{key}: {name} lacks {file}, which its {INDEX} lists; copy or download it again"
            )
        trouble = damage(folder / file)
        if trouble:
            raise StudyError(f"{key}: {folder / file} {trouble}")


def _require_safetensors(name: str, files: list[str], key: str) -> None:
    if not any(file.endswith(".safetensors") for file in files):
        raise StudyError(
            f"{key}: {name} has no *.safetensors, and weights are read in no other format; load it "
            "once in transformers and save it with save_pretrained"
        )


def damage(file: Path) -> str:
    """What is wrong with a safetensors file; "" if its header and its length agree."""
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            return "is a Git LFS pointer, not the weights themselves: run git lfs pull"
    try:
        with safe_open(file, "pt"):
            return ""
    except (SafetensorError, OSError) as error:
        return f"is damaged or incomplete ({error}): copy or download it again"
