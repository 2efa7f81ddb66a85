"""A key that a line names is there before anything runs, or nothing runs; none is ever shown."""

import pytest

from sm70lib import preflight
from sm70lib.asking import runs
from sm70lib.judging import required
from sm70lib.serving import keys
from sm70lib.study import judges, others, params
from sm70lib.study.params import ROOT, StudyError

EVAL = ["03_qlora_finetune", "04_eval"]
LINE = "served=http://a/v1 model=qwen3 key=MY_KEY"
CHANGES = {
    "study": "keyed",
    "eval_benchmarks": ["medqa_4", "medical_rubrics"],
    "eval_primary_benchmarks": ["medqa_4"],
    "eval_protocols": ["sm70-2023", "rubric"],
    "eval_own": ["base"],
}
JUDGE = {"plain": "served=http://a/v1 model=llama-3"}


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    for name in ("MY_KEY", keys.REHEARSAL):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def study(**changes):
    return params.load(ROOT / "params/tiny.yml", overrides=CHANGES | changes)


KEYED = {
    "eval_models": {"eval_models": {"mine": LINE}, "eval_judges": JUDGE},
    "eval_judges": {"eval_judges": {"mine": LINE}},
}


def checked(p, running: list[str]) -> None:
    preflight.require_scoring(p, running)


@pytest.mark.parametrize("parameter", KEYED)
def test_a_key_that_is_not_there_is_refused_before_training(parameter, monkeypatch):
    p = study(**KEYED[parameter])
    said = f"^{parameter}: mine: key=MY_KEY names an environment variable that is not set here; set"
    with pytest.raises(StudyError, match=said):
        checked(p, EVAL)
    monkeypatch.setenv("MY_KEY", "")
    with pytest.raises(StudyError, match=said):
        checked(p, EVAL)
    checked(p, ["03_qlora_finetune"])
    monkeypatch.setenv("MY_KEY", "sk-secret")
    checked(p, EVAL)
    monkeypatch.delenv("MY_KEY")
    monkeypatch.setenv(keys.REHEARSAL, "http://127.0.0.1:9/v1")  # stand-ins need none
    checked(p, EVAL)


def test_a_line_that_names_no_key_needs_none():
    checked(study(eval_models=JUDGE, eval_judges={"q": "served=http://a/v1 model=gpt-4o"}), EVAL)


@pytest.mark.parametrize("parameter", KEYED)
def test_where_all_is_answered_and_nothing_is_made_anew_no_key_is_needed(parameter, outputs):
    p = study(**KEYED[parameter])
    folder = outputs / "keyed"
    for run in runs.planned(p):
        for model in ("base", "mine"):
            path = required.predictions(folder, model, run)
            (path.with_suffix(".judged")).mkdir(parents=True, exist_ok=True)
            path.touch()
            (path.with_suffix(".judged") / "mine.jsonl").touch()
    checked(p, ["04_eval"])
    with pytest.raises(StudyError, match="key=MY_KEY"):
        checked(p, EVAL)


@pytest.mark.parametrize("secret", ["sk-proj-abcDEF", "hf_abcdefGHI"])
def test_a_key_in_place_of_its_name_is_never_shown(secret):
    line = f"served=http://a/v1 model=qwen3 key={secret}"
    with pytest.raises(StudyError, match="key=") as of_model:
        keys.require(others.read("mine", line).server, "eval_models: mine")
    with pytest.raises(StudyError, match="key=") as of_judge:
        keys.require(judges.read("mine", line).server, "eval_judges: mine")
    with pytest.raises(StudyError, match="key=... is not understood") as of_line:
        judges.read("mine", f"served=http://a/v1 key={secret}")
    for told in (of_model, of_judge, of_line):
        assert secret not in str(told.value)
