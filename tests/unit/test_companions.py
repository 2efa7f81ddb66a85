"""A study that figures_studies names is run first, unless it has predictions or no file."""

from types import SimpleNamespace

from sm70lib import preflight
from sm70lib.steps.steps import write_json


def test_only_studies_with_a_file_and_without_predictions_are_run_first(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "ROOT", tmp_path)
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "params").mkdir()
    for name in ("done", "todo"):
        (tmp_path / f"params/{name}.yml").write_text("")
    write_json(tmp_path / "outputs/done/steps/04_eval/done.json", {"outputs": {}})
    study = SimpleNamespace(figures_studies=["done", "todo", "only-an-overlay"])
    assert [file.stem for file in preflight.to_run_first(study)] == ["todo"]
