"""One writer a study, and what is left when a run is stopped."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sm70lib.records import children, locks
from sm70lib.steps import steps
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from tests.toy import TOY, ran

# A notebook in a kernel of its own: begins a step, says so, and waits to be ended.
NOTEBOOK = """
import sys, time
from sm70lib.steps import steps
from sm70lib.study import params
step = steps.begin(sys.argv[2], params.load(sys.argv[1]))
print("begun", flush=True)
time.sleep(600)
"""


def only(toy, *names: str) -> None:
    """Leaves only some notebooks."""
    for name in set(TOY) - set(names):
        (toy.folder / f"notebooks/{name}.ipynb").unlink()


def notebook(toy, name: str) -> subprocess.Popen:
    """A step that another kernel has begun."""
    command = [sys.executable, "-c", NOTEBOOK, str(toy.file), name]
    environment = os.environ | toy.environment
    kernel = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert kernel.stdout.readline() == "begun\n"
    return kernel


def test_a_notebook_keeps_runs_and_other_notebooks_away_until_its_kernel_ends(toy):
    only(toy, "00_base")
    kernel = notebook(toy, "00_base")
    try:
        with pytest.raises(StudyError) as refused:
            steps.begin("00_base", params.load(toy.file))
        said = str(refused.value)
        assert f"study tiny is being run already (00_base, process {kernel.pid} on" in said
        assert "\n" not in said and "kernel is shut down" in said
        ended = toy.run()
        assert ended.returncode == 2 and f"process {kernel.pid}" in ended.stderr
        assert ended.stderr.count("\n") == 1
    finally:
        kernel.kill()
        kernel.wait()
    assert (toy.study / "lock.json").exists(), "what a killed kernel leaves"
    assert ran(toy.run()) == ["00"], "is no obstacle"


def test_a_run_keeps_notebooks_away_and_hands_its_lock_to_its_kernels(toy):
    """Between its steps too; its own kernels begin and finish steps meanwhile."""
    only(toy, "00_base", "02_load_4bit")
    toy.write(
        "02_load_4bit",
        before="import time\nstep.path('waits').touch()\n"
        "while (step.folder / 'waits').exists():\n    time.sleep(0.1)\n",
    )
    environment = os.environ | toy.environment
    with subprocess.Popen(
        toy.command(), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as runner:
        while not (toy.study / "waits").exists():
            assert runner.poll() is None
            time.sleep(0.1)
        with pytest.raises(StudyError, match=rf"\(a run, process {runner.pid} on"):
            steps.begin("00_base", params.load(toy.file))
        (toy.study / "waits").unlink()
        assert "02_load_4bit: finished" in runner.communicate()[0]
    assert steps.begin("00_base", params.load(toy.file)).folder == toy.study


def test_a_kernel_that_outlives_its_runner_still_writes_alone(toy, monkeypatch):
    steps.require_writable(toy.study)
    kernel = notebook(toy, "00_base")  # which holds the step's lock, as under a runner
    (toy.study / "lock").unlink()  # the runner's lock has gone with it
    monkeypatch.setattr(locks, "ORPHAN_SECONDS", 0.2)
    try:
        with pytest.raises(StudyError, match="by a kernel that an ended run has left"):
            steps.begin("00_base", params.load(toy.file))
    finally:
        kernel.kill()
        kernel.wait()
    steps.begin("00_base", params.load(toy.file))


def test_a_step_lets_go_when_it_is_finished_or_refused(made):
    locks.release(made.toy.study)
    made.toy.change("lora_r", 8)
    with pytest.raises(StudyError, match="lora_r"):
        steps.begin("03_qlora_finetune", made.study)
    assert made.toy.study not in locks._steps
    first = steps.begin("02_load_4bit", made.study)
    steps.begin("02_load_4bit", made.study)  # a cell that is run twice
    assert made.toy.study in locks._steps
    first.finish("memory.csv")
    assert made.toy.study not in locks._steps and not (made.toy.study / "lock.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_run_ends_in_one_sentence_and_leaves_no_orphan(toy, number):
    only(toy, "00_base")
    toy.write(
        "00_base",
        before="import os, subprocess\n"
        "from sm70lib.records import children\n"
        "process = subprocess.Popen(['sleep', '600'])\n"
        "waits = step.path('waits')\n"
        "if not waits.exists():\n"
        "    steps.write_text(waits, f'{os.getpid()} {process.pid}')\n"
        "    with children.ended_with_us(process):\n        process.wait()\n"
        "process.kill()\n",
    )
    environment = os.environ | toy.environment
    with subprocess.Popen(
        toy.command(),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a suite in the background ignores Ctrl-C, and so would all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as runner:
        while not (toy.study / "waits").exists():
            assert runner.poll() is None
            time.sleep(0.1)
        started = [int(word) for word in (toy.study / "waits").read_text().split()]
        assert len(started) == 2 and all(map(psutil.pid_exists, started))
        runner.send_signal(number)
        said = runner.communicate(timeout=120)[1].strip()
    assert runner.returncode == 1
    assert said.startswith(
        "00_base: stopped by hand in cell work; nothing that was finished is lost"
    )
    assert said.count("\n") == 0 and f"-m sm70lib run {toy.file}" in said
    assert not any(map(alive, started))
    assert toy.run().returncode == 0, "the same command goes on"


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_notebook_shows_the_notes_of_its_child_and_nothing_else_of_its_log(tmp_path, capsys):
    log = tmp_path / "log.txt"
    log.write_text("note: before\n")
    shown = log.stat().st_size
    with open(log, "ab") as file:
        file.write(b"{'loss': 1}\nnote: checkpoint-6 is passed over\nnote: half")
    shown = children.show_notes(log, shown)
    assert capsys.readouterr().out == "checkpoint-6 is passed over\n"
    with open(log, "ab") as file:
        file.write(b" a line \xff\n")
    assert children.show_notes(log, shown) == log.stat().st_size
    assert capsys.readouterr().out == "half a line \ufffd\n"
