"""Runs 04 to 07 of a finished study as JupyterLab does: all cells, in order and then backwards.

    python -m tests.lab small

04 to 06 are the executed notebooks that the study left, with its parameters; 07 is given the same
ones. Each has a kernel of its own, as the Jupyter server starts it. The study is copied before, and
its tables and predictions must be as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from sm70lib import live
from sm70lib.kernels import HereWaiting
from sm70lib.steps.steps import outputs
from sm70lib.study import params
from sm70lib.study.params import ROOT
from tests.faults.campaign.trials import content, differing

EXECUTED = ("04_eval", "05_error_analysis", "06_figures")
PLAYGROUND = "07_ask"
RESULTS = ("predictions/*/*.jsonl", "tables/*.csv", "tables/*.md")
PATIENCE = 1800  # seconds for a cell


def book(study: Path, name: str) -> NotebookNode:
    """A notebook with the parameters of a study."""
    if name != PLAYGROUND:
        return nbformat.read(study / f"notebooks/{name}.ipynb", as_version=4)
    empty = load_notebook_node(str(ROOT / f"notebooks/{name}.ipynb"))
    [cell] = [cell for cell in empty.cells if "parameters" in cell.metadata.get("tags", [])]
    given = params.load(ROOT / f"params/{study.name}.yml").model_dump()
    given |= json.loads((study / "manifest.json").read_text())["parameters"]
    known = {key: value for key, value in given.items() if f"\n{key}:" in cell.source}
    return parameterize_notebook(empty, known)


def run(study: Path, name: str) -> str:
    """Runs all cells of a notebook; returns what there is to say of it.

    Raises:
        SystemExit: a cell failed.
    """
    manager = HereWaiting()
    variables = {live.IN_LAB: f"{name}.ipynb", "SM70_OUTPUTS": str(study.parent)}
    manager.start_kernel(cwd=str(ROOT), env=os.environ | {"PYTHONPATH": str(ROOT)} | variables)
    executed = book(study, name)
    started = time.perf_counter()
    try:
        NotebookClient(executed, km=manager, timeout=PATIENCE).execute(cleanup_kc=False)
    except CellExecutionError as error:
        sys.exit(f"{name} failed:\n{error}")
    finally:
        manager.shutdown_kernel(now=True)
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    shown = sum(bool(cell.outputs) for cell in cells)
    seconds = time.perf_counter() - started
    return f"{name}: {len(cells)} cells run, {shown} with outputs, {seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="its folder in outputs/")
    name = parser.parse_args().study
    finished = outputs() / name
    if not (finished / "steps/06_figures/done.json").exists():
        sys.exit(f"outputs/{name} is not finished: run it to the end of 06 first")
    parameters = json.loads((finished / "manifest.json").read_text())["parameters"]
    with tempfile.TemporaryDirectory() as folder:
        for each in (name, *parameters["figures_studies"]):
            shutil.copytree(outputs() / each, Path(folder) / each, symlinks=True)
        if (outputs() / "models").exists():
            (Path(folder) / "models").symlink_to((outputs() / "models").resolve())
        study = Path(folder) / name
        before = content(study, RESULTS)
        order = (*EXECUTED, PLAYGROUND)
        for each in (*order, *reversed(order)):
            print(run(study, each), flush=True)
        other = differing(before, content(study, RESULTS))
    print(f"{len(before)} files of results, {len(other)} differ: {', '.join(other) or 'none'}")
    sys.exit(bool(other))


if __name__ == "__main__":
    main()
