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
    shown = reference.around("reference")[1]
    assert shown == reference.summary() and shown.count("n=") >= 12


def test_the_readme_shows_the_committed_evidence():
    shown = reference.around("evidence")[1]
    assert shown == reference.evidence()
    assert shown.count("**") == 18, "three benchmarks in two layouts, and three controls"


def test_speed_md_shows_the_committed_speeds():
    shown = reference.around("speeds")[1]
    assert shown == reference.speeds() and shown.count("**") >= 4


def test_speed_md_shows_what_was_measured_on_a_gpu():
    shown = reference.around("gpu")[1]
    assert shown == reference.gpu_tables.tables() and shown.count("\n#### ") >= 3
    measured = [
        row
        for path in sorted(reference.gpu_tables.FOLDER.glob("gpu_*.json"))
        for whole in json.loads(path.read_text())
        for row in whole.get("results", [whole])
    ]
    assert sum(line.startswith("| ") for line in shown.splitlines()) >= len(measured) >= 50


def test_a_setting_without_memory_and_a_card_without_files_are_said(tmp_path):
    assert reference.gpu_tables.tables(tmp_path) == "(not measured yet)\n"
    [whole] = json.loads((reference.gpu_tables.FOLDER / "gpu_70b.json").read_text())
    assert reference.gpu_tables.tables().count("out of memory") == sum(
        "failed" in row for row in whole["results"]
    )


def test_the_committed_notebooks_are_executed_without_a_warning_and_name_no_machine():
    notebooks = sorted(REFERENCE.glob("notebooks/*.ipynb"))
    assert len(notebooks) == 7
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        shown = [cell.get("outputs", []) for cell in cells]
        assert sum(map(bool, shown)) >= 3, path.name
        assert not [out for outputs in shown for out in outputs if out.get("name") == "stderr"]
        assert str(ROOT) not in path.read_text() and "/tmp/" not in path.read_text(), path.name
