"""Caps of single benchmarks, and which of its own models a study scores."""

import json

from sm70lib import benchmarks
from sm70lib.asking import runs
from sm70lib.benchmarks import Item
from sm70lib.evaluation import candidates
from tests import small


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
