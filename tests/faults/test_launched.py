"""Scoring in processes of `eval_launcher`: what they leave undone is scored, and none stays."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sm70lib.asking import runs
from sm70lib.evaluation import lines, scoring
from sm70lib.records import children
from sm70lib.study.params import StudyError
from tests.asked import kept, study_with_items
from tests.faults.test_writers import alive

RUN = "medqa_4-sm70-2023-0"
SHARES = """
import os, pathlib, sys
from sm70lib.evaluation import scoring
os.environ["WORLD_SIZE"] = "2"
for rank in {ranks}:
    os.environ["RANK"] = rank
    scoring.main(pathlib.Path(sys.argv[-1]))
"""
WAITS = """
import pathlib, subprocess, sys, time
below = subprocess.Popen(["sleep", "600"])
pathlib.Path(sys.argv[-1]).with_name("started").write_text(str(below.pid))
time.sleep(600)
"""


class Launched:
    """A study with a base, whose launcher runs the words of a test in a process of its own."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.p = study_with_items(folder)
        self.p.eval_protocols, self.p.eval_own = ["sm70-2023"], ["base"]
        self.asked = runs.runs(self.p, folder / "data/benchmarks")
        self.base = folder / f"predictions/base/{RUN}.jsonl"
        self.task = self.base.with_name("task.json")
        self.monkeypatch = monkeypatch

    def score(self, words: str = "") -> None:
        """Scores what is left, with a launcher that executes the words; here if there are none."""
        self.p.eval_launcher = "torchrun" if words else "python"
        command = [sys.executable, "-c", words]
        self.monkeypatch.setattr(scoring, "launcher", lambda line: command)
        scoring.score_all(self.p, self.asked, self.folder)

    def parts(self) -> list[Path]:
        """The files of lines that nobody has gathered."""
        return list(self.base.parent.glob(f"{RUN}.*.part"))


@pytest.fixture
def study(tmp_path, monkeypatch):
    return Launched(tmp_path, monkeypatch)


def test_a_file_without_the_lines_of_one_process_is_not_finished(study):
    with pytest.raises(StudyError) as refusal:
        study.score(SHARES.format(ranks=("0",)))
    there = len(kept(study.base))
    assert 0 < there < 30
    said = f"base/{RUN}.jsonl holds {there} of 30 lines after eval_launcher ended: run 04 again"
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert lines.SEAL not in json.loads(study.base.with_suffix(".meta.json").read_text())
    study.score()
    assert len(kept(study.base)) == 30


def test_the_notebook_gathers_whatever_its_environment_says(study, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    study.score(SHARES.format(ranks=("0", "1")))
    assert len(kept(study.base)) == 30 and not study.parts()


def test_a_notebook_that_scores_itself_is_none_of_several_processes(study, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    study.score()
    assert len(kept(study.base)) == 30 and not study.parts()
    left = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")}
    assert left == {"RANK": "1", "WORLD_SIZE": "2"}, "its kernel keeps what its user set"


def test_lines_that_are_dropped_when_they_are_gathered_are_named(tmp_path, capsys):
    path = tmp_path / "base" / "x.jsonl"
    path.parent.mkdir()
    good = json.dumps({"item_id": "a", "seed": 0})
    path.with_suffix(".0.part").write_text(f"{good}\n7\n")
    lines.gather(path)
    assert path.read_text() == f"{good}\n" and not list(path.parent.glob("*.part"))
    assert "base/x.0.part: line 2 is not a prediction and is dropped" in capsys.readouterr().out


def test_an_interrupted_launch_leaves_no_task_and_no_process(study, monkeypatch):
    started = study.task.with_name("started")

    def interrupted(process, *_, **__):
        while not started.exists() or not started.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.score(WAITS)
    assert not study.task.exists()
    assert not alive(int(started.read_text()))


def test_a_process_whose_notebook_was_killed_stops_after_its_batch(study, monkeypatch):
    """It leaves whole lines, and the notebook that comes next scores the rest."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setenv(children.NOTEBOOK, f"{socket.gethostname()}:{gone.pid}")
    with pytest.raises(SystemExit) as stopped:
        study.score()
    assert stopped.value.code == children.ORPHANED
    assert 0 < len(kept(study.base)) < 30
    monkeypatch.delenv(children.NOTEBOOK)
    study.score()
    assert len(kept(study.base)) == 30


def test_processes_are_told_which_notebook_waits_for_them(study):
    words = f"import os, sys; sys.exit('error: ' + os.environ['{children.NOTEBOOK}'])"
    with pytest.raises(StudyError, match=f"error: {socket.gethostname()}:{os.getpid()};"):
        study.score(words)


def test_a_task_that_a_killed_launch_has_left_is_removed(study):
    study.task.parent.mkdir(parents=True)
    study.task.write_text("{}")
    study.score()
    assert not study.task.exists()
