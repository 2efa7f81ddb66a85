"""Kernels and runners that die are explained, and the study goes on."""

import os
import signal
import subprocess
import time

from sm70lib.study.params import ROOT
from tests.toy import TOY, ran


def test_a_killed_kernel_and_an_error_are_explained_and_resumed(toy):
    (toy.folder / "outputs").mkdir()
    (toy.folder / "outputs/kill").touch()
    (toy.folder / "outputs/raise").touch()
    ended = toy.run()
    assert ended.returncode == 1
    for words in (
        "03_qlora_finetune failed in cell work",
        "the kernel died, probably for lack of memory",
        "notebooks/03_qlora_finetune.ipynb",
        f"-m sm70lib run {toy.file}",
    ):
        assert words in ended.stderr
    assert (toy.study / "stages/1-sft/log.txt").read_text() == "0 1 "
    ended = toy.run()
    assert (
        ran(ended) == ["03", "04"]
        and "03_qlora_finetune: runs (goes on where it stopped)" in ended.stdout
    )
    assert (toy.study / "stages/1-sft/log.txt").read_text() == "0 1 2 ", "no step twice"
    assert "04_eval failed in cell work\n  RuntimeError: scores are not finite\n" in ended.stderr
    assert (toy.study / "notebooks/04_eval.ipynb").exists(), "the failed notebook stays"
    (toy.folder / "outputs/raise").unlink()
    assert ran(toy.run()) == ["04", "05", "06"]


def test_a_killed_runner_goes_on(toy):
    for name in list(TOY)[1:]:
        (toy.folder / f"notebooks/{name}.ipynb").unlink()
    toy.write(
        "00_base",
        before="import time\nwaited = step.path('waited')\nif not waited.exists():\n"
        "    waited.touch()\n    time.sleep(60)\n",
    )
    environment = os.environ | toy.environment
    with subprocess.Popen(
        toy.command(), cwd=ROOT, env=environment, stdout=subprocess.PIPE
    ) as runner:
        while not (toy.study / "waited").exists():
            time.sleep(0.1)
        assert "is being run already" in toy.run().stderr
        runner.send_signal(signal.SIGKILL)
    ended = toy.run()
    assert ended.returncode == 0 and "00_base: runs (goes on where it stopped)" in ended.stdout


def test_a_notebook_without_its_last_cell_is_no_success(toy):
    book = toy.folder / "notebooks/00_base.ipynb"
    book.write_text(book.read_text().replace("step.finish(", "print("))
    ended = toy.run()
    assert ended.returncode == 1 and "the notebook ended without step.finish()" in ended.stderr
