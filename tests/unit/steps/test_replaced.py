"""An adapter is never lost: another key is refused, an old result comes back with its own."""

import json
import re
import shutil

import pytest

from sm70lib.records import locks
from sm70lib.steps import keys, replaced, steps
from sm70lib.study.params import StudyError
from tests.toy import Made, tree

TUNING = "03_qlora_finetune"


def half_made(toy, weights: bool = True) -> Made:
    """A toy study whose 03 was killed, after its first checkpoint if there are `weights`."""
    made = Made(toy)
    for name in list(steps.STEPS)[:3]:
        made.run(name)
    step = steps.begin(TUNING, made.study)
    steps.write_text(step.path("stages/1-sft/log.txt"), "0 ")
    if weights:
        steps.write_text(step.path("stages/1-sft/checkpoint-5/adapter_model.safetensors"), "five")
    locks.release(toy.study)  # as when its kernel ends
    return made


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "half-made"])
def test_another_key_of_03_is_refused_and_nothing_is_moved(toy, finished):
    made = half_made(toy)
    if finished:
        made.all()
    made.toy.change("lora_r", 8)
    before = tree(made.toy.study)
    with pytest.raises(StudyError) as refused:
        steps.begin(TUNING, made.study)
    said = str(refused.value)
    assert "(lora_r: 16 -> 8)" in said and "\n" not in said
    assert "run params/tiny.yml --fresh 03" in said
    assert "run params/tiny.yml -p lora_r 8 -p study NAME --from tiny" in said
    assert (
        tree(made.toy.study) == before
        and "stages/1-sft/checkpoint-5/adapter_model.safetensors" in before
    )
    made.toy.change("lora_r", 16)
    made.run(TUNING)
    assert steps.status(TUNING, made.study)[0]


def test_another_base_is_refused_too_and_other_data_for_03_named(made):
    made.toy.change("world_seed", 12)
    with pytest.raises(
        StudyError, match=r"00_base of study tiny was made .* \(world_seed: 11 -> 12\)"
    ):
        steps.begin("00_base", made.study)
    made.toy.change("world_seed", 11)
    made.toy.change("data_limit", 9)
    made.run("01_data")
    with pytest.raises(
        StudyError, match=r"\(data/holdout changed, data/train changed\).* --from tiny\)"
    ):
        steps.begin(TUNING, made.study)
    made.toy.change("data_limit", "null")
    assert made.all() == {}, "01's own data come back, and with them 03 holds"


def test_what_holds_no_weights_is_moved_aside_and_begun_anew(toy):
    made = half_made(toy, weights=False)
    made.toy.change("lora_r", 8)
    made.run(TUNING)
    assert [
        path.read_text() for path in made.toy.study.glob("replaced/*/*/stages/1-sft/log.txt")
    ] == ["0 "]


def test_made_again_on_request_the_old_result_is_kept_and_comes_back(made, capsys):
    before = tree(made.toy.study / "adapter") | tree(made.toy.study / "stages")
    digits = keys.short(steps.mark(made.toy.study, TUNING)["key"])
    made.toy.change("lora_r", 8)
    assert set(made.all(again=(TUNING,))) == {TUNING, "04_eval", "06_figures", "05_error_analysis"}
    place = made.toy.study / "replaced" / TUNING / digits
    assert (
        tree(place / "adapter") | tree(place / "stages") == before
        and (place / "steps" / TUNING / "done.json").exists()
    )
    assert (made.toy.study / "adapter/adapter_model.safetensors").read_text().startswith("8 ")
    made.toy.change("lora_r", 16)
    assert replaced.judge(TUNING, made.study).what == "comes back"
    ran = made.ran[TUNING]
    replaced.make_way(TUNING, made.study)
    assert re.fullmatch(
        f"{TUNING}: brought back from replaced/{TUNING}/{digits}; what was there lies in "
        rf"replaced/{TUNING}/[0-9a-f]{{12}}\n",
        capsys.readouterr().out.splitlines(True)[-1],
    )
    assert steps.status(TUNING, made.study) == (True, "finished") and made.ran[TUNING] == ran
    assert (
        tree(made.toy.study / "adapter") | tree(made.toy.study / "stages") == before
        and not place.exists()
    )
    made.toy.change("lora_r", 8)
    replaced.make_way(TUNING, made.study)
    assert steps.status(TUNING, made.study)[0] and place.exists(), "and back again"


def test_a_half_made_one_comes_back_and_goes_on(toy):
    made = half_made(toy)
    made.toy.change("lora_r", 8)
    made.run(TUNING, anew=True)
    made.toy.change("lora_r", 16)
    made.run(TUNING)
    assert (toy.study / "stages/1-sft/log.txt").read_text() == "0 1 2 ", "no step twice"
    assert (toy.study / "stages/1-sft/checkpoint-5").exists()


def test_the_same_key_made_again_is_really_made(made):
    for number in (1, 2):
        made.run(TUNING, anew=True)
        assert made.ran[TUNING] == number + 1
    digits = keys.short(steps.mark(made.toy.study, TUNING)["key"])
    assert sorted(path.name for path in (made.toy.study / "replaced" / TUNING).iterdir()) == [
        digits,
        f"{digits}-2",
    ]
    replaced.make_anew(TUNING, made.study)
    for _ in range(2):  # begun, killed, and begun again
        steps.begin(TUNING, made.study)
        assert not (made.toy.study / "adapter").exists(), (
            "nothing comes back while it is made afresh"
        )


def test_04_scores_all_of_it_again_until_that_is_finished(made):
    replaced.make_anew("04_eval", made.study)
    assert not (made.toy.study / "predictions").exists()
    for _ in range(2):  # begun, killed, and begun again
        steps.begin("04_eval", made.study)
        assert steps.mark(made.toy.study, "04_eval", "begun")["fresh"]
    made.run("04_eval")
    made.toy.change("eval_limit", 3)
    steps.begin("04_eval", made.study)
    assert not steps.mark(made.toy.study, "04_eval", "begun")["fresh"]
    assert (made.toy.study / "predictions/tuned/a.jsonl").exists(), "another key moves none of it"


def test_a_stored_result_that_was_changed_does_not_come_back(made):
    made.toy.change("lora_r", 8)
    made.all(again=(TUNING,))
    (stored,) = made.toy.study.glob("replaced/03*/*/adapter/adapter_model.safetensors")
    stored.write_text("other")
    made.toy.change("lora_r", 16)
    with pytest.raises(StudyError, match="lora_r: 8 -> 16"):
        steps.begin(TUNING, made.study)


def test_a_changed_adapter_is_put_aside_and_a_missing_one_made_again(made, capsys):
    weights = made.toy.study / "adapter/adapter_model.safetensors"
    good = weights.read_text()
    weights.write_text("other")
    made.run(TUNING)
    assert weights.read_text() == good
    put = made.toy.study / "replaced" / TUNING / "damaged/adapter/adapter_model.safetensors"
    assert put.read_text() == "other"
    assert "adapter is not as written; put aside in replaced/03" in capsys.readouterr().out
    shutil.rmtree(weights.parent)
    made.run(TUNING)
    assert weights.read_text() == good


def test_quick_steps_move_aside_silently_and_come_back(made, capsys):
    made.toy.change("data_limit", 9)
    made.run("01_data")
    text = made.toy.study / "data/train/content.txt"
    assert text.read_text().startswith("train 9") and capsys.readouterr().out == ""
    made.toy.change("data_limit", "null")
    ran = made.ran["01_data"]
    assert made.all() == {} and made.ran["01_data"] == ran
    assert (
        text.read_text().startswith("train None")
        and "01_data: brought back" in capsys.readouterr().out
    )


def test_a_finished_step_run_again_keeps_its_mark(made):
    for name in steps.STEPS:
        path = made.toy.study / "steps" / name / "done.json"
        old = json.loads(path.read_text())
        steps.write_json(path, old | {"seconds": 9999.0, "commit": "then"})
        made.run(name)
        new = json.loads(path.read_text())
        if name == TUNING:  # the toy's adapter is written anew, with the same weights
            assert new["outputs"]["adapter"]["sha256"] == old["outputs"]["adapter"]["sha256"]
        assert (new["seconds"], new["commit"], new["finished"]) == (
            9999.0,
            "then",
            old["finished"],
        ), name
    assert all(steps.status(name, made.study) == (True, "finished") for name in steps.STEPS)


def test_a_mark_from_before_a_parameter_was_declared_still_holds(made):
    path = made.toy.study / "steps" / TUNING / "done.json"
    old = json.loads(path.read_text())
    del old["key"]["parameters"]["sft_steps"]
    old["key"]["parameters"]["train_merge"] = []
    steps.write_json(path, old)
    assert steps.status(TUNING, made.study)[0]
    made.toy.change("lora_r", 8)
    assert made.why(TUNING) == "lora_r: 16 -> 8"
