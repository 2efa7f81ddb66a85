"""A trainer that runs out of memory says so, and names what the plan would change."""

import sys

import pytest

from sm70lib.sizes import budget
from sm70lib.study import memory
from sm70lib.study.params import StudyError
from sm70lib.training import launch
from tests import small


@pytest.mark.parametrize(
    "code, said",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "no output"),
        ("raise MemoryError", "MemoryError"),
        (
            "import torch; "
            "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')",
            "CUDA out of memory",
        ),
        (
            "import sys; sys.exit('error: torch.distributed: exitcode  : -9 (pid: 3)')",
            "exitcode  : -9",
        ),
    ],
)
def test_a_trainer_that_runs_out_of_memory_names_what_the_plan_would_change(
    tmp_path, monkeypatch, code, said
):
    p = small.base(tmp_path, train_micro_batch_size=2)
    trainer = tmp_path / "trainer.py"
    trainer.write_text(code)
    monkeypatch.setattr(launch, "launcher", lambda line: [sys.executable, str(trainer)])
    with pytest.raises(StudyError) as error:
        launch.run(p, tmp_path, 1, "sft")
    text = str(error.value)
    assert (
        "memory ran out: sft needs 0.0" in text
        and "change to train_micro_batch_size 1" in text
        and said in text
    )
    monkeypatch.setenv(
        memory.LIMIT,
        str(
            budget.needed(
                tmp_path / "base/model",
                small.parameters(train_micro_batch_size=1, train_gradient_checkpointing=True),
                "sft",
            )
            / 1e9
            + 1e-6
        ),
    )
    with pytest.raises(
        StudyError, match="change to train_micro_batch_size 1, train_gradient_checkpointing True"
    ):
        launch.run(p, tmp_path, 1, "sft")


def test_another_end_does_not_speak_of_memory(tmp_path, monkeypatch):
    p = small.base(tmp_path)
    monkeypatch.setattr(
        launch,
        "launcher",
        lambda line: [sys.executable, "-c", "import sys; sys.exit('error: a bad row')"],
    )
    with pytest.raises(StudyError, match="exit code 1: error: a bad row") as error:
        launch.run(p, tmp_path, 1, "sft")
    assert "memory" not in str(error.value)
