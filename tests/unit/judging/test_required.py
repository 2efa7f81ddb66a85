"""Judges are looked at before anything is trained, and people may read when there are replies."""

import json

import pytest

from sm70lib import preflight, runner
from sm70lib.judging import readings, required
from sm70lib.steps import keys, status
from sm70lib.study import judges, params, variants
from sm70lib.study.params import ROOT, StudyError

TINY = ROOT / "params/tiny.yml"
LLAMA = "meta-llama/Llama-2-7b-hf"
CHANGES = {
    "study": "judged",
    "eval_benchmarks": ["medqa_4", "medical_rubrics"],
    "eval_primary_benchmarks": ["medqa_4"],
    "eval_protocols": ["sm70-2023", "rubric"],
}
QWEN = "served=http://a/v1 model=qwen3"
ROW = {"model": "tuned", "benchmark": "medical_rubrics", "item_id": "medical_rubrics/00"}
ROW |= {"criterion": 1, "met": True, "reader": "Dr. Lee"}
EVAL = ["03_qlora_finetune", "04_eval"]


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def study(judge: str | None = QWEN, **more):
    """The tiny study with rubrics, which are read by one judge."""
    given = CHANGES | {"eval_judges": {"mine": judge} if judge else {}} | more
    return params.load(TINY, overrides=given)


def rows_in(path, *rows: dict) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"readings={path}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("served=http://x/v1 modle=qwen", "modle is not understood; allowed are served=URL"),
        ("served=http://x/v1 model=house", "does not tell which family .* add family=NAME"),
        ("served=x:8000 model=qwen3", "x:8000 is not an http"),
        (
            "served=http://x/v1 model=qwen3 at_once=many",
            "at_once=many is not a whole number from 1",
        ),
    ],
)
def test_a_line_that_is_not_understood_is_refused_before_training(line, words):
    with pytest.raises(StudyError, match=f"^eval_judges: mine: .*{words}"):
        preflight.require_scoring(study(line), EVAL)
    preflight.require_scoring(study(line), ["01_data"])


def test_a_base_of_the_family_of_every_judge_is_refused_before_training():
    given = {"eval_models": {"other": LLAMA}}
    with pytest.raises(StudyError, match="eval_judges: other is of the family llama, and so is"):
        preflight.require_scoring(study("served=http://a/v1 model=llama-3", **given), EVAL)
    preflight.require_scoring(study("served=http://a/v1 model=llama-3"), EVAL)
    preflight.require_scoring(study(**given), EVAL)


def test_the_run_refuses_a_judge_before_its_first_notebook(outputs):
    given = CHANGES | {"eval_judges": {"mine": "served=http://x/v1 modle=qwen"}}
    with pytest.raises(StudyError, match="modle is not understood"):
        runner.run([str(TINY)], {name: json.dumps(value) for name, value in given.items()})
    assert not list(outputs.rglob("*.ipynb"))


def test_no_judge_of_params_is_refused_and_none_is_asked_for_without_rubrics():
    files = [(path,) for path in (ROOT / "params").glob("*.yml")] + variants.overlays()
    for each in files:
        assert required.before(params.load(*each), EVAL) == []
    plain = {"eval_benchmarks": ["medqa_4"], "eval_protocols": ["sm70-2023"]}
    assert required.before(study("readings=nowhere.csv", **plain), EVAL) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"met": "maybe"}, "row 1: met is 'maybe'; allowed are true, false, and nothing"),
        ({"model": "gpt"}, "row 1: gpt wrote no replies to medical_rubrics here.* tuned on"),
        ({"benchmark": "medqa_4"}, "row 1: tuned wrote no replies to medqa_4"),
        ({}, "row 1: criterion 1 of medical_rubrics/00 stands there already"),
    ],
)
def test_a_row_that_says_nothing_of_use_is_refused_before_training(change, words, tmp_path):
    line = rows_in(tmp_path / "lee.jsonl", ROW, ROW | change)
    with pytest.raises(StudyError, match=f"^eval_judges: mine: .*{words}"):
        preflight.require_scoring(study(line), EVAL)


def test_a_column_that_is_missing_is_named_before_training(tmp_path):
    (tmp_path / "lee.csv").write_text("model,benchmark,item_id,met,reader\n")
    preflight.require_scoring(study(f"readings={tmp_path / 'lee.csv'}"), EVAL)
    (tmp_path / "lee.csv").write_text("model,benchmark,item_id,met,reader\na,b,c,true,Lee\n")
    with pytest.raises(StudyError, match="row 0: there is no criterion; a reading has model, "):
        preflight.require_scoring(study(f"readings={tmp_path / 'lee.csv'}"), EVAL)


def test_a_person_who_is_the_only_judge_reads_when_there_are_replies(tmp_path, capsys):
    alone = study(f"readings={tmp_path / 'lee.jsonl'}")
    preflight.require_scoring(alone, EVAL)
    said = capsys.readouterr().out
    assert said.startswith("eval_judges: mine: there is no file") and said.count("\n") == 1
    assert "the same command takes it in and scores nothing again" in said
    rows_in(tmp_path / "lee.jsonl", ROW)
    preflight.require_scoring(alone, EVAL)
    assert capsys.readouterr().out == ""


def test_04_runs_again_when_the_readings_are_there_or_are_others(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "of_step", lambda *_: {"parameters": {}, "inputs": {}, "code": {}})
    monkeypatch.setattr(status.provenance, "code", lambda *_: {})
    folder, path = outputs / "judged", tmp_path / "lee.jsonl"
    alone = study(f"readings={path}")
    done = {"key": keys.of_step(), "outputs": {}, "external": {}, "code": {}, "commit": "c"}
    monkeypatch.setattr(status, "mark", lambda _, name, kind="done": done if kind == "done" else {})

    def taken_in() -> tuple[bool, str]:
        readings.remember(folder, readings.digests(judges.all_of(alone)))
        return status.status("04_eval", alone)

    assert taken_in() == (True, "finished"), "a file that is not there yet keeps nobody waiting"
    rows_in(path, ROW)
    assert status.status("04_eval", alone) == (False, "new readings of mine")
    assert taken_in() == (True, "finished")
    rows_in(path, ROW, ROW | {"criterion": 2})
    assert status.status("04_eval", alone) == (False, "new readings of mine")
    path.unlink()
    assert status.status("04_eval", alone) == (True, "finished")
