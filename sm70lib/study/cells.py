"""What the cells of a notebook assign, and whether that fits the study that they name."""

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sm70lib.untrusted.escaping import shortened

STUDY = "tiny"  # the study whose values the notebooks show
MOST_SHOWN = 3  # values that an error compares
VALUE = 100  # characters of each


def run(cells: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What cells that have run assign: the last one that papermill wrote, and all others."""
    injected: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for cell in cells:
        if cell.startswith("# Parameters"):
            injected = assigned(cell)
        else:
            own |= assigned(cell)
    return injected, own


def assigned(source: str) -> dict[str, Any]:
    """The names that a cell assigns at top level, with their values (None if not a constant)."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell with a magic
        return {}
    values = {}
    for node in body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                values[target.id] = getattr(node.value, "value", None)
    return values


def slip(study: str, differing: dict[str, tuple[Any, Any]], files: list[Path]) -> str:
    """Says that a cell gives a study's name to values that are not the study's.

    Args:
        study: The study that the cell names.
        differing: By name the values that differ: the cell's, and the study file's.
        files: The files of params/ that declare the study, below the repository root.
    """
    given = " ".join(path.as_posix() for path in files)
    shown = [
        f"{name} is {shortened(repr(here), VALUE)} here and {shortened(repr(there), VALUE)} there"
        for name, (here, there) in list(differing.items())[:MOST_SHOWN]
    ]
    more = [f"{len(differing) - MOST_SHOWN} more differ"] if len(differing) > MOST_SHOWN else []
    return (
        f"notebook: study {study} is declared by {given}, but {', '.join(shown + more)}; run "
        f"`python -m sm70lib run {given}` and open the copies in outputs/{study}/notebooks, "
        "or give study a name of your own"
    )
