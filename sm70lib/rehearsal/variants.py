"""Every overlay of params/overlays, tried on its study: 00, 01 and one step of each stage of 03.

In this process and without kernels, so that fifteen overlays take a minute and not twenty. A
rehearsal runs one of them whole: `python -m sm70lib rehearse STUDY OVERLAY`.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import time
from pathlib import Path

from sm70lib.rehearsal import rehearsal
from sm70lib.study import steps
from sm70lib.study.fields import Study
from sm70lib.study.params import REHEARSAL, ROOT, StudyError, load
from sm70lib.study.provenance import declared

ONE_STEP = dict.fromkeys(("cpt_steps", "sft_steps", "dpo_steps"), 1)


def overlays() -> list[tuple[Path, Path]]:
    """Each overlay behind the study it belongs to.

    That is the one that its comment names (`An overlay of sm70.yml`), or else the one whose name
    its own name goes on from. Raises StudyError for an overlay whose study is not in params/.
    """
    studies = sorted((ROOT / "params").glob("*.yml"), key=lambda path: len(path.stem))
    found = []
    for overlay in sorted((ROOT / "params/overlays").glob("*.yml")):
        text = overlay.read_text()
        named = re.search(r"^# An overlay of (\S+)\.yml", text, re.MULTILINE)
        own = re.search(r"^study: *(\S+)", text, re.MULTILINE)
        fitting = [
            path
            for path in studies
            if (path.stem == named[1] if named else own and own[1].startswith(f"{path.stem}-"))
        ]
        if not fitting:
            raise StudyError(
                f"{overlay}: no study in params/ is the one it belongs to; begin its study's name "
                "with the study's and a dash, or say in a comment: # An overlay of sm70.yml"
            )
        found.append((fitting[-1], overlay))
    return found


def first_steps(variants: list[tuple[Path, ...]]) -> int:
    """Takes each variant (a study file, then overlays) to its first training step; returns 0.

    What it made is deleted then; where one fails, it stays to be looked at. Raises StudyError where
    one does not get there.
    """
    folder = steps.outputs() / f"{REHEARSAL}variants"
    shutil.rmtree(folder, ignore_errors=True)
    with rehearsal.local_hub(folder):
        for files in variants:
            began, written = time.monotonic(), load(*files)
            quiet = io.StringIO()  # progress bars and what the cells print
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                changed = rehearsal.cuts(written) | ONE_STEP
                changed |= rehearsal.stand_ins(written, folder)
                rows = _first_step(load(*files, overrides=changed))
            shutil.rmtree(steps.outputs() / changed["study"])
            seconds = time.monotonic() - began
            print(f"{written.study}: {rows} rows, first step in {seconds:.1f} s", flush=True)
    return 0


def _first_step(study: Study) -> int:
    """00 and 01 by their notebooks' cells, then the trainer itself; the rows to tune on."""
    import matplotlib

    from sm70lib.training import launch, methods, train

    matplotlib.use("agg")
    folder = steps.outputs() / study.study
    shutil.rmtree(folder, ignore_errors=True)
    _run_cells("00_base", study)
    _run_cells("01_data", study)
    for number, kind in enumerate(study.train_stages, 1):
        stage = launch.describe(study, folder, number, kind, study.train_seeds[0])
        train.main(stage)
        logged = launch.metrics(stage)
        if not (stage / "done.json").exists() or logged["step"].max() != 1:
            raise StudyError(f"{study.study}: stage {stage.name} did not take its first step")
    return len(methods.rows_of("sft", folder, study, 1)[0])


def _run_cells(name: str, study: Study) -> None:
    """The code cells of a notebook, with the study's values, as a kernel would run them."""
    notebook = steps.notebook(name)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    scope = {"display": lambda *_: None}
    for number, cell in enumerate(cell for cell in cells if cell["cell_type"] == "code"):
        exec(compile("".join(cell["source"]), f"{name}, cell {cell['id']}", "exec"), scope)
        if number == 0:  # the parameters cell
            scope |= {parameter: getattr(study, parameter) for parameter in declared(notebook)}
    import matplotlib.pyplot

    matplotlib.pyplot.close("all")
