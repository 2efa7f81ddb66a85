"""Where a model is read from: its own folder, outputs/models, or the hub; and that no two mix."""

import json
import shutil

import pytest

from sm70lib import preflight
from sm70lib.evaluation.candidates import Model
from sm70lib.inspection import places
from sm70lib.models import loading
from sm70lib.parameters.rules import contradiction
from sm70lib.sizes import shapes
from sm70lib.steps import weights
from sm70lib.study import params
from sm70lib.study.files import write_json
from sm70lib.study.params import ROOT, StudyError
from sm70lib.tiny import pretrain
from tests import small

NAME = "someone/little-llama"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A small Llama that lies in the models folder under a hub name."""
    p = small.base(tmp_path / "trained")
    folder = tmp_path / "models" / NAME
    shutil.copytree(tmp_path / "trained/base/model", folder)
    monkeypatch.setenv("SM70_MODELS", str(tmp_path / "models"))
    return p, folder


def test_a_hub_name_is_read_from_the_models_folder(kept, tmp_path):
    trained = loading.load(tmp_path / "trained/base/model").state_dict()
    found = loading.load(NAME).state_dict()
    assert trained.keys() == found.keys() and all((found[n] == trained[n]).all() for n in trained)
    assert len(loading.load_tokenizer(NAME)) == 600
    assert places.model(NAME, "base_model") == kept[1]
    assert shapes.configuration(NAME).vocab_size == 600
    assert weights.place("someone/else") == "someone/else"
    assert weights.place(tmp_path / "trained/base/model") == str(tmp_path / "trained/base/model")


def test_no_hub_is_needed_for_it(kept):
    study = params.load(ROOT / "params/tiny.yml").model_copy(update={"base_model": NAME})
    assert not preflight._needs_hub(study)
    assert preflight._needs_hub(study.model_copy(update={"base_model": "someone/else"}))


def test_its_weights_are_part_of_the_identity_of_a_prediction(kept):
    _, folder = kept
    own, hubs = Model("base", NAME).identity(), Model("base", "someone/else").identity()
    shutil.move(folder, folder.with_name("away"))
    assert len({own, hubs, Model("base", NAME).identity()}) == 3


def test_a_study_does_not_go_on_with_other_weights_of_the_same_name(kept, tmp_path, capsys):
    p, folder = kept
    write_json(folder / weights.MADE_FROM, {"file": "a.gguf", "note": "quantised before"})
    p.base_model = NAME
    study = tmp_path / "study"
    pretrain.base(p, [], None, study / "base")
    about = json.loads((study / "base/base.json").read_text())
    assert about["model"] == NAME and about["made_from"]["file"] == "a.gguf"
    assert "quantised before" in capsys.readouterr().out
    assert loading.located(study) == NAME
    shutil.move(folder, folder.with_name("away"))
    with pytest.raises(StudyError, match="from a.gguf, and now it comes from the hub"):
        loading.located(study)


def test_a_base_from_the_hub_is_recorded_as_before(kept, tmp_path):
    p, _ = kept
    p.base_model = "someone/else"
    pretrain.base(p, [], None, tmp_path / "base")
    assert json.loads((tmp_path / "base/base.json").read_text()) == {"model": "someone/else"}


@pytest.mark.parametrize(
    "name, remedy", [(weights.SMOLLM2, "make smollm2"), ("someone/else", "someone/else, or run")]
)
def test_a_model_that_is_nowhere_says_what_to_do(name, remedy, tmp_path, monkeypatch):
    monkeypatch.setenv("SM70_MODELS", str(tmp_path))
    with pytest.raises(StudyError, match=f"^{name} cannot be read .*{remedy}"):
        loading.load_tokenizer(name)


def test_no_study_writes_into_the_models_folder():
    assert "models" in contradiction({"study": "models"})
