"""Notebooks that are opened in JupyterLab and run too early: one sentence, and no traceback."""

import os
import shutil

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from sm70lib import live
from sm70lib.kernels import HereWaiting
from sm70lib.study.params import ROOT

REFERENCE = ROOT / "outputs/reference/tiny"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel as the Jupyter server starts one, and the folder of its studies."""
    outputs = tmp_path_factory.mktemp("outputs")
    environment = os.environ | {"PYTHONPATH": str(ROOT), live.IN_LAB: "x.ipynb"}
    manager = HereWaiting()
    manager.start_kernel(cwd=str(ROOT), env=environment | {"SM70_OUTPUTS": str(outputs)})
    yield manager, outputs
    manager.shutdown_kernel(now=True)


def said(kernel, name: str) -> list[str]:
    """Runs all cells of a notebook up to an error; returns what the reader sees of the error."""
    book: NotebookNode = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
    client = NotebookClient(book, km=kernel[0], timeout=120)
    with pytest.raises(CellExecutionError):
        client.execute(cleanup_kc=False)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    errors = [out for cell in cells for out in cell.outputs if out.output_type == "error"]
    assert len(errors) == 1 and errors[0].ename == "StudyError"
    return errors[0].traceback


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("04_eval", "04_eval needs base/base.json of study tiny: run 00_base first"),
        ("05_error_analysis", "needs base/base.json of study tiny: run 00_base first"),
        ("06_figures", "needs base/base.json of study tiny: run 00_base first"),
        ("07_ask", "tiny/base/base.json is missing: run 00_base of tiny first"),
    ],
)
def test_a_study_that_is_missing(kernel, name, why):
    shutil.rmtree(kernel[1] / "tiny", ignore_errors=True)
    (line,) = said(kernel, name)
    assert line.startswith("StudyError: ") and why in line and "\n" not in line


def test_a_study_that_lacks_what_comes_before(kernel):
    """The committed results have no weights and no adapter: 05 and 06 can run, 04 and 07 cannot."""
    shutil.copytree(REFERENCE, kernel[1] / "tiny", dirs_exist_ok=True)
    (line,) = said(kernel, "04_eval")
    assert "base/model is not as 00_base wrote it: run 00_base of study tiny again" in line
    (line,) = said(kernel, "07_ask")
    assert "no model in " in line and "run 00_base first" in line
