"""Scoring in two processes writes what one writes."""

import shutil
from dataclasses import replace

import pytest

from sm70lib.asking import runs
from sm70lib.evaluation import candidates, first_look, scoring
from sm70lib.study.params import StudyError
from tests.asked import kept, study_with_items


@pytest.fixture
def study(tmp_path):
    return study_with_items(tmp_path)


DDP = "params/accelerate/ddp.yml"  # two processes; where there is no GPU they meet over gloo


def test_two_processes_write_what_one_writes_and_items_are_scored_again_alone(study):
    folder, p = study
    asked, found = runs.runs(p, folder / "data/benchmarks"), []
    for launcher in (
        "python",
        "torchrun --standalone --nproc-per-node 2",
        f"accelerate launch --config_file {DDP} --main_process_port 0",
    ):
        p.eval_launcher = launcher
        scoring.score_model(candidates.Model("base", str(folder / "base/model")), p, asked, folder)
        found.append(kept(folder / "predictions/base/medqa_4-sm70-2023-0.jsonl"))
        again = first_look.rescored(folder / "predictions")["base"]
        assert (
            0 < again["items"] <= 64
            and again["largest_difference_nats"] < 1e-3
            and again["flips"] == 0
        )
        assert not list(folder.glob("predictions/base/*.part"))
        other = [replace(run, protocol=replace(run.protocol, version=99)) for run in asked]
        with pytest.raises(
            StudyError, match="was made with another protocol version"
        ):  # finished or not
            scoring.score_model(
                candidates.Model("base", str(folder / "base/model")), p, other, folder
            )
        shutil.rmtree(folder / "predictions")
    assert found[0] == found[1] == found[2] and len(found[0]) == 30
