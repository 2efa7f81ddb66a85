"""What a run says of its plan before it starts, and that it goes on without one."""

import subprocess

import pytest

from sm70lib import preflight
from sm70lib.study.params import ROOT, StudyError, load

FILE = "params/sm70-7b.yml"
RUNNING = ["00_base", "03_qlora_finetune", "04_eval"]


@pytest.fixture
def said(monkeypatch, capsys):
    """What is printed if the plan's process ends in this way."""

    def ended(returncode: int, stdout: str, stderr: str) -> str:
        done = subprocess.CompletedProcess([], returncode, stdout, stderr)
        monkeypatch.setattr(preflight.subprocess, "run", lambda *_, **__: done)
        preflight.forewarn(load(ROOT / FILE), RUNNING, [FILE], {})
        return capsys.readouterr().out

    return ended


def test_a_plan_is_printed_and_a_study_that_it_refuses_does_not_run(said):
    assert said(0, "sft needs 90 GB\n", "a library warns\n") == "sft needs 90 GB\n"
    assert said(0, "", "a library warns\n") == ""
    with pytest.raises(StudyError, match="^base_model: no such model$"):
        said(2, "", "a library warns\nerror: base_model: no such model\n")


def test_a_plan_that_crashes_is_said_to_lack_and_the_run_goes_on(said):
    """Only the last line of a traceback stood there, and nobody knew of what."""
    why = "ImportError: libcudart.so.12: cannot open shared object file"
    without = "; the run goes on without it\n"
    crashed = said(1, "", f"Traceback (most recent call last):\n  File ...\n{why}\n")
    assert crashed == f"the plan could not be made ({why}){without}"
    killed = said(-9, "sft needs 90 GB\n", "")
    assert killed == f"sft needs 90 GB\nthe plan could not be made (exit code -9){without}"
