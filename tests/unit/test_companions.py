"""A study that figures_studies names is run first, unless it has predictions or no file."""

from types import SimpleNamespace

import pytest

from sm70lib import preflight
from sm70lib.steps.steps import write_json
from sm70lib.study import variants
from tests import marks


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project whose params/ declare the studies done and todo, and an overlay of todo."""
    monkeypatch.setattr(variants, "ROOT", tmp_path)
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "params/overlays").mkdir(parents=True)
    for name in ("done", "todo"):
        (tmp_path / f"params/{name}.yml").write_text("")
    (tmp_path / "params/overlays/more.yml").write_text("study: todo-more\n")
    return tmp_path


def test_only_studies_with_a_file_and_without_predictions_are_run_first(folder):
    write_json(folder / "outputs/done/steps/04_eval/done.json", marks.done())
    study = SimpleNamespace(figures_studies=["done", "todo", "todo-more", "of-no-file"])
    first = preflight.to_run_first(study)
    assert [[file.stem for file in files] for files in first] == [["todo"], ["todo", "more"]]
