"""What is known of a stage after its first step, and what 03 says of it."""

import ast
import json
from types import SimpleNamespace

import pytest
import torch

from sm70lib.models import loading
from sm70lib.presentation import found
from sm70lib.presentation.shown import shown
from sm70lib.steps import steps
from sm70lib.study.params import StudyError
from sm70lib.training import checks
from tests import small

ARGS = SimpleNamespace(warmup_steps=0)


def shown_by_03(stage) -> str:
    """What the cell of 03 that reads `first-step.json` shows."""
    cells = json.loads(steps.notebook("03_qlora_finetune").read_text())["cells"]
    (cell,) = [cell for cell in cells if cell["id"] == "first-step"]
    *before, last = ast.parse("".join(cell["source"])).body
    scope = {"stage": stage, "found": found, "shown": shown}
    exec(compile(ast.Module(before, []), "03", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "03", "eval"), scope).data


def take_a_step(stage, sharded: bool, change: float) -> None:
    """The first step of an adapter as Trainer tells it, which changes matrices B alone."""
    small.base(stage)
    model = small.with_adapter(loading.load(stage / "base/model", small.parameters()))
    for check in checks.first_steps(stage, "sft", False, sharded):
        state = SimpleNamespace(global_step=0, is_world_process_zero=True)
        check.on_train_begin(ARGS, state, None, model=model)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight += change
        state.global_step = 1
        check.on_step_end(ARGS, state, None, model=model)


def test_03_comes_to_its_end_where_processes_share_an_adapter_s_base(tmp_path):
    """It read a file that nothing had written, after all training."""
    take_a_step(tmp_path, sharded=True, change=0.01)
    check = json.loads((tmp_path / "first-step.json").read_text())
    assert check == {"weights": 28, "weights_moved": 14}
    page = shown_by_03(tmp_path)
    assert "One step moved 14 of 28 weight matrices" in page
    assert "nothing was saved and compared" in page and "largest difference" not in page


def test_an_adapter_that_does_not_move_is_refused_and_no_comparison_is_claimed(tmp_path):
    with pytest.raises(StudyError) as refusal:
        take_a_step(tmp_path, sharded=True, change=0)
    assert "after the first step 0 of 28 weights have moved" in str(refusal.value)
    assert "differ" not in str(refusal.value), "nothing was saved to be compared"


def test_03_says_so_where_a_finished_stage_left_nothing_on_its_first_step(tmp_path):
    """Stages with an adapter under FSDP did not, and are not trained again for it."""
    page = shown_by_03(tmp_path)
    assert "What the first step changed was not recorded" in page


@pytest.mark.parametrize(
    "about, said",
    [
        ({"max_logit_difference": 0.0, "max_logit_change": 0.2}, "largest difference 0)"),
        ({"weights": 20, "weights_moved": 20, "max_weight_difference": 0}, "differ from them by 0"),
    ],
)
def test_what_was_compared_is_said_as_before(about, said, tmp_path):
    (tmp_path / "first-step.json").write_text(json.dumps(about))
    assert said in shown_by_03(tmp_path)
