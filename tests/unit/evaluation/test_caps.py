"""Caps of single benchmarks, and which of its own models a study scores."""

import json

import pytest

from sm70lib import benchmarks
from sm70lib.asking import runs
from sm70lib.benchmarks import Item
from sm70lib.evaluation import candidates, scoring
from sm70lib.parameters.rules import contradiction
from sm70lib.study.params import StudyError
from tests import small
from tests.asked import study_with_items


def _items(count: int) -> list[Item]:
    return [
        Item(f"medqa_4/{n:03}", f"{n}", "medqa_4", f"What is {n}?", "", ("a", "b", "c", "d"), n % 4)
        for n in range(count)
    ]


def test_a_cap_is_for_one_benchmark_and_a_higher_one_keeps_the_items_of_a_lower(tmp_path):
    for name in ("medqa_4", "medmcqa"):
        benchmarks.save(tmp_path, name, _items(100))
        benchmarks.save(tmp_path, f"{name}.pool", [])
    p = small.parameters(
        eval_benchmarks=["medqa_4", "medmcqa"],
        eval_shots=[0],
        eval_protocols=["harness"],
        eval_limit=None,
    )
    drawn = []
    for cap in (10, 40):
        p.eval_caps = {"medqa_4": cap}
        capped, whole = runs.runs(p, tmp_path)
        drawn.append([item.id for item in capped.items])
        assert len(drawn[-1]) == cap and len(whole.items) == 100
    assert set(drawn[0]) < set(drawn[1]), "nested, whatever the cap"
    assert drawn[1] == sorted(drawn[1]) != [f"medqa_4/{n:03}" for n in range(40)], "not the first"


def test_only_the_models_that_are_named_are_scored(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/base.json").write_text(json.dumps({"model": "base/model"}))
    p = small.parameters(quant_type="nf4", eval_models={})
    names = {}
    for own in (["tuned"], ["base-nf4", "tuned"], ["base"]):
        p.eval_own = own
        names[tuple(own)] = [model.name for model in candidates.models(p, tmp_path)]
    assert all(list(own) == found for own, found in names.items())


def test_a_study_without_a_model_to_score_is_refused_before_predictions_are_moved(tmp_path):
    folder, p = study_with_items(tmp_path)
    scored = folder / "predictions/base/medqa_4-sm70-2023-0.jsonl"
    scored.parent.mkdir(parents=True)
    scored.write_text("{}\n")
    p.eval_own = ["base-nf4", "merged"]
    with pytest.raises(StudyError, match="eval_own: this study has none of base-nf4, merged, and"):
        scoring.score_all(p, runs.runs(p, folder / "data/benchmarks"), folder)
    assert scored.exists()


@pytest.mark.parametrize(
    ("own", "changes"),
    [
        (["base-nf4"], {"quant_type": "nf4"}),
        (["stages"], {"train_seeds": [0, 1]}),
        (["merged"], {"train_merge": ["original"]}),
        (["base-nf4", "stages", "merged"], {"eval_models": {"other": "some/model"}}),
    ],
)
def test_a_study_file_without_a_model_to_score_is_refused(own, changes):
    few = {"quant_type": "none", "train_stages": ["sft"], "train_seeds": [0], "train_merge": []}
    values = {"eval_own": own, "eval_models": {}} | few
    said = f"eval_own {own} names no model that this study has"
    assert contradiction(values).startswith(said) and contradiction(values | changes) is None
    assert contradiction(values | {"eval_own": [*own, "tuned"]}) is None
