"""The manifest of a study: the marks of its steps and its parameters, gathered in one file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sm70lib.steps.keys import STEPS, mark
from sm70lib.study.files import make_public, write_json
from sm70lib.study.params import rehearsal


def write_manifest(folder: Path) -> None:
    """Writes `manifest.json` of a study.

    Args:
        folder: outputs/<study>, where at least one step is finished.
    """
    marks = {name: mark(folder, name) for name in STEPS}
    done = {name: step for name, step in marks.items() if step}
    last = max(done.values(), key=lambda step: step["finished"])
    used: dict[str, Any] = {}
    for step in done.values():
        used |= step["parameters"]
    manifest = {
        "study": folder.name,
        **rehearsed(folder),
        "parameters": used,
        "seeds": {name: used[name] for name in used if name.endswith(("seed", "seeds"))},
        "steps": done,
        "hardware": _hardware(done.values()),
        "commit": last["commit"],
        "versions": last["versions"],
        "finished": last["finished"],
    }
    write_json(folder / "manifest.json", manifest)
    make_public(folder / "manifest.json")


def rehearsed(folder: Path) -> dict[str, str]:
    """The entry that marks a rehearsed study as one; empty for other studies."""
    warning = rehearsal(folder.name)
    return {"rehearsal": warning} if warning else {}


def _hardware(done: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The hardware of the last step, and entries that only earlier steps recorded."""
    hardware: dict[str, Any] = {}
    for step in sorted(done, key=lambda step: step["finished"]):
        hardware |= step["hardware"]
    return hardware
