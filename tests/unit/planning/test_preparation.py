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
    rows = [{"name": "two", "theirs": 500_000}]
    (tmp_path / "text.json").write_text(json.dumps(rows))
    [line] = preparation.hours(study)
    assert "48.2 billion tokens" in line
    hours = "13.4 on 2, 1.7 on 16, 0.4 on 64, near-duplicates not counted; at 500,000 tokens"
    assert f"{hours} a second and core" in line
    rows.append({"name": f"text: {preparation.NEAR}", "ratio": 0.8})
    (tmp_path / "text.json").write_text(json.dumps(rows))
    [line] = preparation.hours(study)
    assert "16.7 on 2, 2.1 on 16, 0.5 on 64 with near-duplicates; at 400,000 tokens" in line
    assert preparation.hours(params.load(ROOT / "params/sm70.yml")) == []
    assert preparation.hours(params.load(ROOT / "params/tiny-meditron.yml")) == []
