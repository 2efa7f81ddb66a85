"""The committed tables and pictures follow, byte for byte, from the committed predictions."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from sm70lib.study.params import ROOT
from tests.results import reference

REFERENCE = ROOT / "outputs/reference/tiny"


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """05 and 06, run again from a copy of the reference by plain papermill."""
    outputs = tmp_path_factory.mktemp("again")
    shutil.copytree(REFERENCE, outputs / "tiny")
    for made in ("tables", "figures", "steps/05_error_analysis", "steps/06_figures"):
        shutil.rmtree(outputs / "tiny" / made)
    for name in ("05_error_analysis", "06_figures"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "papermill",
                f"notebooks/{name}.ipynb",
                str(outputs / f"{name}.ipynb"),
                "-f",
                "params/tiny.yml",
                "--no-progress-bar",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"SM70_OUTPUTS": str(outputs)},
            timeout=900,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return outputs / "tiny"


@pytest.mark.parametrize(
    ("folder", "ending", "least"),
    [("tables", "*", 20), ("figures", "*.png", 8), ("figures", "*.svg", 8)],
)
def test_what_is_committed_is_what_the_predictions_give(again, folder, ending, least):
    committed = sorted(path.relative_to(REFERENCE) for path in (REFERENCE / folder).glob(ending))
    made = sorted(path.relative_to(again) for path in (again / folder).glob(ending))
    assert committed == made and len(made) >= least
    assert [
        path for path in made if (again / path).read_bytes() != (REFERENCE / path).read_bytes()
    ] == []


def test_the_readme_shows_the_committed_numbers():
    shown = (
        (ROOT / "README.md")
        .read_text()
        .partition("<!-- reference -->\n")[2]
        .partition("<!-- /reference -->")[0]
    )
    assert shown == reference.summary() and shown.count("n=") >= 12


def test_the_readme_shows_the_committed_evidence():
    shown = (
        (ROOT / "README.md")
        .read_text()
        .partition("<!-- evidence -->\n")[2]
        .partition("<!-- /evidence -->")[0]
    )
    assert shown == reference.evidence()
    assert shown.count("**") == 18, "three benchmarks in two layouts, and three controls"


def test_the_readme_shows_the_committed_speeds():
    shown = (
        (ROOT / "README.md")
        .read_text()
        .partition("<!-- speeds -->\n")[2]
        .partition("<!-- /speeds -->")[0]
    )
    assert shown == reference.speeds() and shown.count("**") >= 4


def test_the_committed_notebooks_are_executed_and_name_no_machine():
    notebooks = sorted(REFERENCE.glob("notebooks/*.ipynb"))
    assert len(notebooks) == 7
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        assert sum(bool(cell.get("outputs")) for cell in cells) >= 3, path.name
        assert str(ROOT) not in path.read_text() and "/tmp/" not in path.read_text(), path.name
