"""The plan says how long the paper's corpus takes to prepare, at the speed that was measured."""

import json

from sm70lib.planning import preparation
from sm70lib.study import params
from sm70lib.study.params import ROOT


def test_the_papers_corpus_is_forecast_from_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "ROOT", tmp_path)
    monkeypatch.setattr(preparation, "MEASURED", tmp_path / "text.json")
    study = params.load(ROOT / "params/meditron-70b.yml")
    assert preparation.hours(study) == [], "nothing is said that was not measured"
    (tmp_path / "text.json").write_text(json.dumps([{"theirs": 500_000}]))
    [line] = preparation.hours(study)
    assert "48.2 billion tokens" in line
    assert "13.4 on 2, 1.7 on 16, 0.4 on 64; at 500,000 tokens a second and core" in line
    assert preparation.hours(params.load(ROOT / "params/sm70.yml")) == []
    assert preparation.hours(params.load(ROOT / "params/tiny-meditron.yml")) == []
