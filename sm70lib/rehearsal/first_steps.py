"""Tries every overlay of params/overlays on its study: 00, 01 and one step of each stage of 03.

All run in this process and without kernels, so that fifteen overlays take one minute instead of
twenty. To rehearse one of them whole: `python -m sm70lib rehearse STUDY OVERLAY`.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

from sm70lib.parameters.fields import Study
from sm70lib.parameters.rules import REHEARSAL
from sm70lib.parameters.stages import IN_ROUNDS, STAGES
from sm70lib.rehearsal import rehearsal, stand_in_files
from sm70lib.steps import steps
from sm70lib.study.params import StudyError, load
from sm70lib.study.provenance import declared
from sm70lib.study.used import values_of

ONE_STEP: dict[str, Any] = dict.fromkeys([f"{kind}_steps" for kind in STAGES], 1)
ONE_STEP |= {f"{kind}_round_steps": [] for kind in IN_ROUNDS}  # no round has a length of its own


def run(variants: list[tuple[Path, ...]]) -> int:
    """Runs each variant as far as its first training step.

    The outputs of a variant are deleted when it gets there. If it fails, they stay to be looked at.

    Args:
        variants: for each, a study file and then its overlays.

    Returns:
        0, the exit code.

    Raises:
        StudyError: a stage of a variant did not take its first step.
    """
    folder = steps.outputs() / f"{REHEARSAL}variants"
    shutil.rmtree(folder, ignore_errors=True)
    with rehearsal.local_hub(folder):
        stand_in_files.write([load(*files) for files in variants], folder)
        for files in variants:
            began = time.monotonic()
            written = load(*files)
            quiet = io.StringIO()  # takes progress bars and the cells' prints
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                changed = rehearsal.cuts(written) | ONE_STEP
                changed |= stand_in_files.data_root(written, folder)
                rows = _first_step(load(*files, overrides=changed))
            shutil.rmtree(steps.outputs() / changed["study"])
            seconds = time.monotonic() - began
            print(f"{written.study}: {rows} rows, first step in {seconds:.1f} s", flush=True)
    return 0


def _first_step(study: Study) -> int:
    """Runs the cells of 00 and 01, then the trainer for one step; returns the rows to tune on."""
    import matplotlib

    from sm70lib.training import launch, rows, train

    matplotlib.use("agg")
    folder = steps.outputs() / study.study
    shutil.rmtree(folder, ignore_errors=True)
    _run_cells("00_base", study)
    _run_cells("01_data", study)
    for number, kind in enumerate(study.train_stages, 1):
        stage = launch.write_description(study, folder, number, kind, study.train_seeds[0])
        train.main(stage)
        logged = launch.metrics(stage)
        if not (stage / "done.json").exists() or logged["step"].max() != 1:
            raise StudyError(f"{study.study}: stage {stage.name} did not take its first step")
    training_rows, _ = rows.rows_of("sft", folder, study, 1)
    return len(training_rows)


def _run_cells(name: str, study: Study) -> None:
    """Runs the code cells of a notebook with the study's values, as a kernel would."""
    notebook = steps.notebook(name)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code_cells = [cell for cell in cells if cell["cell_type"] == "code"]
    scope: dict[str, Any] = {"display": lambda *_: None}
    for number, cell in enumerate(code_cells):
        source = "".join(cell["source"])
        exec(compile(source, f"{name}, cell {cell['id']}", "exec"), scope)
        if number == 0:  # the parameters cell
            scope |= values_of(study, declared(notebook))
    import matplotlib.pyplot

    matplotlib.pyplot.close("all")
