"""A rehearsal that is broken on purpose ends where it is broken, and says why."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from tests.chain.rehearsed import rehearse

pytestmark = pytest.mark.xdist_group("broken")  # one finished rehearsal for two tests


def test_a_rehearsal_is_no_study(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sm70lib", "run", "params/tiny.yml", "-p", "study", "rehearsal-x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"SM70_OUTPUTS": str(tmp_path)},
    )
    assert done.returncode == 2 and "kept for rehearsals" in done.stderr
    with pytest.raises(StudyError, match="figures_studies .'rehearsal-sm70'. names a rehearsal"):
        params.load(ROOT / "params/tiny.yml", overrides={"figures_studies": ["rehearsal-sm70"]})


def test_a_model_of_which_nothing_is_known_is_named(tmp_path):
    done = rehearse(
        tmp_path, "params/sm70-7b.yml", "-p", "base_model", "nobody/knows", "-p", "study", "x"
    )
    assert done.returncode == 2 and "known_models.yml says nothing of nobody/knows" in done.stderr


SMALL = [
    "params/sm70-7b.yml",
    "-p",
    "study",
    "small",
    "-p",
    "train_seeds",
    "[0]",
    "-p",
    "data_sources",
    "[medical_meadow_medqa, medical_meadow_mmmlu]",
    "-p",
    "eval_benchmarks",
    "[medqa_4, pubmedqa, medsafety]",
    "-p",
    "eval_protocols",
    "[harness, safety]",
    "-p",
    "eval_primary_protocol",
    "harness",
    "-p",
    "eval_primary_benchmarks",
    "[medqa_4, pubmedqa]",
]


def copied(root: Path) -> Path:
    """A copy of library, notebooks and studies, to be broken."""
    for name in ("sm70lib", "notebooks", "params"):
        shutil.copytree(ROOT / name, root / name)
    return root


@pytest.fixture
def copy(tmp_path) -> Path:
    return copied(tmp_path / "copy")


def change(path: Path, pattern: str, text: str) -> None:
    was = path.read_text()
    now = re.sub(pattern, text, was, count=1)
    assert now != was, f"{pattern} is not in {path}"
    path.write_text(now)


def test_an_undeclared_parameter_ends_the_rehearsal(copy, tmp_path):
    change(copy / "notebooks/03_qlora_finetune.ipynb", r'    "data_max_length: int[^"]*",\n', "")
    done = rehearse(tmp_path, *SMALL, root=copy)
    assert done.returncode == 1 and "03_qlora_finetune failed in cell" in done.stderr
    assert "data_max_length" in done.stderr


def test_a_benchmark_file_that_is_missing_ends_the_rehearsal_before_anything_runs(copy, tmp_path):
    change(
        copy / "sm70lib/standins/items.py",
        '"medsafety": _medsafety',
        '"medsafety": lambda writer: {}',
    )
    done = rehearse(tmp_path, *SMALL, root=copy)
    assert done.returncode == 2 and "00_base: runs" not in done.stdout
    assert "medsafety" in done.stderr and "by hand" in done.stderr


def test_a_stage_without_its_sources_ends_the_rehearsal_at_once(tmp_path):
    done = rehearse(tmp_path, *SMALL, "-p", "train_stages", "[sft, dpo]")
    assert done.returncode == 2 and "dpo_sources" in done.stderr
    assert "(needed by a stage dpo in train_stages)" in done.stderr
    assert not list(tmp_path.iterdir())


# To score a stand-in takes 17 MB, and 22 with the adapter: this limit leaves that one out.
LIMIT = {"SM70_MEMORY_GB": "0.017"}
FOUR = ["-p", "eval_launcher", "accelerate launch --num_processes 4"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """The outputs of a rehearsal that came through with little memory, and the copy it ran in."""
    outputs = tmp_path_factory.mktemp("finished")
    root = copied(outputs / "copy")
    done = rehearse(outputs, *SMALL, *FOUR, root=root, **LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    return outputs, root


def test_a_model_too_large_is_left_out_and_said(finished):
    folder = finished[0] / "rehearsal-small"
    assert json.loads((folder / "predictions/left_out.json").read_text()).keys() == {"tuned"}
    assert "not scored here: 0.022 GB" in (folder / "tables/paper.md").read_text()


def test_a_finished_rehearsal_broken_afterwards(finished):
    """A number quoted twice ends 06; an adapter of another template is made anew."""
    outputs, root = finished
    folder, quoted = outputs / "rehearsal-small", root / "sm70lib/analysis/quoted.csv"
    right = quoted.read_text()
    quoted.write_text(right + right.splitlines(keepends=True)[4])
    done = rehearse(outputs, *SMALL, *FOUR, "--resume", root=root, **LIMIT)
    assert (
        done.returncode == 1
        and "06_figures failed" in done.stderr
        and "both quote SM70 interim" in done.stderr
    )
    assert "03_qlora_finetune: finished" in done.stdout, "and nothing is trained again"
    quoted.write_text(right)
    for path in folder.glob("**/template.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    done = rehearse(outputs, *SMALL, *FOUR, "--resume", root=root, **LIMIT)
    assert done.returncode == 0, done.stderr
    assert "03_qlora_finetune: adapter, stages/1-sft/adapter are not as written" in done.stdout
    assert "04_eval: finished" in done.stdout, "the adapter is as it was"
    damaged = folder / "replaced/03_qlora_finetune/damaged"
    for path in ("adapter/template.json", "stages/1-sft/adapter/template.json"):
        assert (damaged / path).exists() and "0" * 64 not in (folder / path).read_text()
