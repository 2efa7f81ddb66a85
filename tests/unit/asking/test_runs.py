"""A study whose questions cannot be asked is refused before anything is read or trained."""

import json

import pytest

from sm70lib import __main__ as command
from sm70lib import runner
from sm70lib.asking import runs
from sm70lib.study import params, variants
from sm70lib.study.params import ROOT, StudyError

TINY = ROOT / "params/tiny.yml"
UNCOVERED = {"eval_benchmarks": "[medqa_4, xstest_safe]", "eval_primary_benchmarks": "[medqa_4]"}
CLEAN = {"eval_protocols": "[sm70-2023-clean]", "eval_primary_protocol": "sm70-2023-clean"}
CLEAN |= {"eval_benchmarks": "[usmle_step1]", "eval_primary_benchmarks": "[usmle_step1]"}
CLEAN |= {"eval_shots": "[5]", "eval_primary_shots": "5"}


def study(changed: dict[str, str]):
    return params.load(TINY, overrides=params.parsed(changed | {"study": "unasked"}))


def test_every_study_of_params_and_every_overlay_can_be_asked():
    files = [(path,) for path in (ROOT / "params").glob("*.yml")] + variants.overlays()
    for each in files:
        runs.require_asked(params.load(*each))
    assert len(files) > 40


def test_a_benchmark_that_no_protocol_covers_is_named():
    with pytest.raises(StudyError, match="none of sm70-2023, .* covers xstest_safe with .0. shots"):
        runs.require_asked(study(UNCOVERED))


def test_shots_from_a_benchmark_that_is_not_read_are_named():
    said = (
        "eval_benchmarks lacks medqa_4: protocol sm70-2023-clean takes its 5 shots of usmle_step1"
    )
    with pytest.raises(StudyError, match=said):
        runs.require_asked(study(CLEAN))
    both = CLEAN | {"eval_benchmarks": "[usmle_step1, medqa_4]"}
    runs.require_asked(study(both))
    runs.require_asked(study(CLEAN | {"eval_shots": "[0]", "eval_primary_shots": "0"}))


def test_a_model_whose_server_alone_has_its_tokenizer_needs_a_protocol_that_reads():
    asked = {"eval_models": "{gpt: 'served=http://a/v1 model=gpt-4o'}"}
    said = "eval_models: gpt can be asked under no protocol .* add generate to eval_protocols"
    with pytest.raises(StudyError, match=said):
        runs.require_asked(study(asked))
    runs.require_asked(study(asked | {"eval_protocols": "[sm70-2023, harness, generate]"}))
    line = "{gpt: 'served=http://a/v1 model=gpt-4o tokenizer=someone/theirs'}"
    runs.require_asked(study({"eval_models": line}))


def test_run_and_plan_refuse_it_before_anything_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    changed = UNCOVERED | {"study": "unasked"}
    with pytest.raises(StudyError, match="covers xstest_safe"):
        runner.run([str(TINY)], changed)
    assert not list(tmp_path.rglob("*.ipynb"))
    words = [word for name, value in changed.items() for word in ("-p", name, value)]
    assert command.main(["plan", str(TINY), *words]) == 2
    assert "covers xstest_safe" in capsys.readouterr().err


def test_a_declared_comparison_that_no_item_answers_is_named():
    without_shots = {"eval_shots": "[0, 5]", "eval_primary_shots": "5"}
    without_shots |= {"eval_primary_protocol": "as-trained"}
    with pytest.raises(StudyError, match="as-trained with 5 shots gives medqa_4 no accuracy"):
        runs.require_asked(study(without_shots))
    elsewhere = {"eval_primary_protocol": "sm70-2023", "eval_primary_benchmarks": "[truthfulqa]"}
    with pytest.raises(StudyError, match="sm70-2023 with 0 shots gives truthfulqa no accuracy"):
        runs.require_asked(study(elsewhere))


@pytest.mark.parametrize(
    "allowed", [{"eval_limit": "5"}, {"eval_caps": "{usmle_step1: 5}", "eval_limit": "50"}]
)
def test_shots_among_the_items_must_leave_some_to_ask(allowed):
    changed = {"eval_shots": "[0, 5]"} | allowed
    with pytest.raises(StudyError, match="its 5 shots of .* from the items .* there are 5"):
        runs.require_asked(study(changed))
    runs.require_asked(study(changed | {"eval_shots": "[0, 4]"}))


def test_an_exam_with_no_more_items_than_shots_is_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path / "outputs"))
    rows = [{"question": f"Which is {n}?", "A": "x", "B": "y", "answer": "A"} for n in range(3)]
    path = tmp_path / "ward.json"
    path.write_text(json.dumps(rows))
    changed = {"eval_benchmarks": f"[{path}]", "eval_primary_benchmarks": f"[{path}]"}
    changed |= {"eval_protocols": "[harness]", "eval_primary_protocol": "harness"}
    changed |= {"eval_shots": "[3]", "eval_primary_shots": "3", "study": "unasked"}
    with pytest.raises(StudyError, match="harness takes its 3 shots of ward from the items"):
        runner.run([str(TINY)], changed)


def test_a_study_beside_this_one_that_nobody_declares_is_refused_at_the_start(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    with pytest.raises(StudyError, match="figures_studies: no file in params/ declares tinny"):
        runner.run([str(TINY)], {"figures_studies": "[tinny]", "study": "unasked"})
    assert not list(tmp_path.rglob("*.ipynb"))


def test_a_fault_of_the_study_is_told_before_its_other_arms_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    changed = {"study": "unasked", "figures_studies": "[tiny-meditron-alone]"}
    with pytest.raises(StudyError, match="covers xstest_safe"):
        runner.run([str(ROOT / "params/tiny.yml")], UNCOVERED | changed)
    assert not (tmp_path / "tiny-meditron-alone").exists()


@pytest.mark.parametrize("name", ["base", "tuned-2", "cut", "benchmark", "n"])
def test_other_models_have_names_that_no_column_has(name):
    with pytest.raises(StudyError, match="takes a name of the study's own models"):
        study({"eval_models": f"{{{name}: some/model}}"})
