"""What the campaign of faults has found (make faults), each as a small test."""

import json
import os

import pytest

from sm70lib.steps import steps
from sm70lib.study import files
from sm70lib.study.params import StudyError
from sm70lib.training import checkpoints, launch, settings
from tests import tuning
from tests.faults.test_damage import TUNING, content


def test_a_folder_in_the_place_of_a_file_is_put_aside(made):
    path = made.toy.study / "data/defects.csv"
    path.unlink()
    path.mkdir()
    assert "01_data" in made.all() and path.is_file()


@pytest.mark.parametrize("absolute", [False, True])
def test_a_mark_cannot_have_files_of_others_moved(made, absolute):
    """It came with a shared study, and names as its step's output what lies outside of it."""
    victim = made.toy.folder / "mine.txt"
    victim.write_text("mine")
    done = steps.mark(made.toy.study, TUNING)
    path = str(victim) if absolute else os.path.relpath(victim, made.toy.study)
    done["outputs"][path] = done["outputs"]["adapter"]
    steps.write_json(made.toy.study / f"steps/{TUNING}/done.json", done)
    assert made.why(TUNING) == f"its mark steps/{TUNING}/done.json is broken"
    made.all()
    assert victim.read_text() == "mine"


def test_what_a_killed_process_was_writing_is_no_part_of_the_result(made):
    before = content(made.toy.study)
    for path in ("base/tokenizer/.content.txt.7", "tables/.main.csv.7"):
        (made.toy.study / path).write_text("half")
    made.all()
    assert content(made.toy.study) == before


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match=f"directory: '{tmp_path}/x'"):
        files.write_text(tmp_path / "x", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("steps, saved, logged", [(350, 50, 5), (3000, 10, 10), (200, 50, 2)])
def test_no_record_of_the_metrics_reaches_over_a_checkpoint(steps, saved, logged):
    """Its mean would be another one in a run that goes on from there."""
    assert settings._logging_steps(steps, saved) == logged


def test_what_a_training_leaves_names_no_folder_of_this_machine(tmp_path):
    """Nor a pickle that nobody reads: a stage is shared with its checkpoints and its log."""
    p = tuning.study(tmp_path, sft_steps=3)
    stage = tuning.train(p, tmp_path)
    left = [path for path in stage.rglob("*") if path.is_file()]
    assert {"stage.json", "trainer_state.json", "adapter_config.json"} <= {
        path.name for path in left
    }
    assert [path for path in left if str(tmp_path).encode() in path.read_bytes()] == []
    assert not any(path.name == "training_args.bin" for path in left)
    about = json.loads((stage / "checkpoint-3/adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == f"outputs/{tmp_path.name}/base/model"


def test_the_reference_of_dpo_names_its_base_publicly_too(tmp_path):
    for folder in ("", "ref"):
        steps.write_json(
            tmp_path / folder / "adapter_config.json", {"base_model_name_or_path": "/home/x/base"}
        )
    checkpoints.make_shareable(tmp_path, "/home/x/base", "outputs/s/base/model")
    for path in tmp_path.rglob("adapter_config.json"):
        assert json.loads(path.read_text()) == {"base_model_name_or_path": "outputs/s/base/model"}


def test_outputs_elsewhere_are_called_as_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path / "mine"))
    assert files.public(f"{tmp_path}/mine/tiny/base") == "outputs/tiny/base"
    assert files.public(f"{tmp_path}/mines/tiny") == f"{tmp_path}/mines/tiny"


def test_a_manifest_names_no_home_folder(made, monkeypatch):
    monkeypatch.setenv("HOME", str(made.toy.folder))
    done = steps.mark(made.toy.study, "01_data")
    done["parameters"]["data_root"] = str(made.toy.folder / "data")
    steps.write_json(made.toy.study / "steps/01_data/done.json", done)
    steps.write_manifest(made.toy.study)
    text = (made.toy.study / "manifest.json").read_text()
    assert json.loads(text)["parameters"]["data_root"] == "~/data"
    assert str(made.toy.folder) not in text


def test_a_damaged_adapter_is_not_asked(made):
    """07 is no step, and looks as a step does."""
    steps.require_as_written("tiny", "adapter", "base/model", "base/none")
    weights = made.toy.study / "adapter/adapter_model.safetensors"
    times = weights.stat().st_mtime_ns
    weights.write_bytes(b"~" * weights.stat().st_size)
    os.utime(weights, ns=(times, times))
    with pytest.raises(StudyError, match="adapter_model.safetensors is not as 03_qlora_finetune"):
        steps.require_as_written("tiny", "base/model", "adapter")
    assert list(made.all()) == [TUNING]


def test_a_move_that_a_kill_has_cut_short_is_ended_and_nothing_is_trained_again(made, monkeypatch):
    """Aside and back; before, half of a result lay in each place."""
    before, rename, done = content(made.toy.study), os.replace, []

    def killed(*given):
        if "replaced" in f"{given}" and len(done) % 3 == 2:
            done.append("killed")
            raise KeyboardInterrupt
        done.append(given)
        rename(*given)

    monkeypatch.setattr(os, "replace", killed)
    kills = 0
    for rank in (8, 16, 8, 16):
        made.toy.change("lora_r", rank)
        for _ in range(20):
            try:
                made.all(again=(TUNING,))
                break
            except KeyboardInterrupt:
                kills += 1
    assert kills >= 5 and made.ran[TUNING] == 2, "once with each rank"
    assert content(made.toy.study) == before
    assert not (made.toy.study / "moving.json").exists()


def test_a_note_of_a_move_cannot_have_files_of_others_moved(made):
    victim = made.toy.folder / "mine.txt"
    victim.write_text("mine")
    for place, path in (("replaced/x", "../../mine.txt"), ("../x", "base"), ("/tmp", "base")):
        about = {"place": place, "back": False, "paths": [path]}
        steps.write_json(made.toy.study / "moving.json", about)
        assert made.all() == {} and victim.read_text() == "mine"


def test_a_rank_that_is_killed_is_told_by_the_words_of_the_launcher(tmp_path):
    said = [
        "Root Cause",
        "  exitcode  : -9 (pid: 7)",
        "  traceback : Signal 9 (SIGKILL) received",
        "==",
    ]
    assert launch._reason(1, said, tmp_path) == "traceback : Signal 9 (SIGKILL) received"
    assert launch._reason(1, ["KeyError: x", "===="], tmp_path) == "KeyError: x"
    assert launch._reason(1, ["===="], tmp_path) == "===="
