"""An adapter is looked at when it is loaded: all of it must find its place in the base."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import save_and_load
from safetensors.torch import load_file, save_file

from sm70lib.models import loading
from sm70lib.models.local import loglikelihoods
from sm70lib.models.request import Request
from sm70lib.study.params import StudyError
from tests import multimodal, small

LAYER_7 = "base_model.model.model.layers.7"  # which the base does not have
ASKED = [Request([5, 6, 7, 8], [[9], [10, 11]])]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    small.base(folder)
    return str(folder / "base/model")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    """An adapter that moves the scores of its base."""
    folder = tmp_path_factory.mktemp("adapter") / "good"
    tuned = get_peft_model(loading.load(base), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, 0, 0.3)
    tuned.save_pretrained(folder)
    return folder


def scores(base, adapter) -> list[list[float]]:
    return loglikelihoods(loading.load(base, adapter=adapter), ASKED)


def changed(adapter, folder, change):
    """A copy of the adapter with other names or sizes of its weights."""
    shutil.copytree(adapter, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(change(weights), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def test_an_adapter_that_fits_moves_the_scores_of_its_base(base, adapter):
    assert scores(base, adapter) != scores(base, None)


def test_an_adapter_whose_weights_fit_nothing_is_refused(base, adapter, tmp_path):
    """Case 08."""
    renamed = changed(
        adapter,
        tmp_path / "renamed",
        lambda weights: {
            name.replace("model.model.layers", "model.model.language_model.layers"): weight
            for name, weight in weights.items()
        },
    )
    with pytest.raises(StudyError, match="8 of 8 weights of the adapter .*renamed fit nothing"):
        scores(base, renamed)


def test_one_weight_that_fits_nothing_is_enough(base, adapter, tmp_path):
    more = changed(
        adapter,
        tmp_path / "more",
        lambda weights: weights | {f"{LAYER_7}.mlp.up_proj.lora_A.weight": torch.ones(4, 8)},
    )
    with pytest.raises(StudyError, match=f"1 of 9 weights .* such as {LAYER_7}"):
        scores(base, more)


def test_an_adapter_of_another_size_is_refused_in_a_sentence(base, adapter, tmp_path):
    wide = changed(
        adapter,
        tmp_path / "wide",
        lambda weights: {
            name: torch.ones(weight.shape[0], 3) if "lora_A" in name else weight
            for name, weight in weights.items()
        },
    )
    with pytest.raises(StudyError, match="does not fit its base: size mismatch for"):
        scores(base, wide)


def test_an_adapter_saved_by_torch_is_refused_in_a_sentence(base, adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "bin")
    weights = load_file(tmp_path / "bin/adapter_model.safetensors")
    (tmp_path / "bin/adapter_model.safetensors").unlink()
    torch.save(weights, tmp_path / "bin/adapter_model.bin")
    with pytest.raises(
        StudyError, match="no adapter_model.safetensors, and weights are read in no"
    ):
        scores(base, tmp_path / "bin")


def test_an_adapter_on_a_base_of_the_hub_asks_nobody(base, adapter, tmp_path, monkeypatch):
    """PEFT would ask whether the base's vocabulary was resized, at every load."""
    shutil.copytree(adapter, tmp_path / "of-the-hub")
    file = tmp_path / "of-the-hub/adapter_config.json"
    about = json.loads(file.read_text()) | {"base_model_name_or_path": "some/model"}
    file.write_text(json.dumps(about))
    asked = []
    monkeypatch.setattr(
        save_and_load, "check_file_exists_on_hf_hub", lambda *names, **_: asked.append(names)
    )
    assert scores(base, tmp_path / "of-the-hub") == scores(base, adapter) and asked == []


# ---- adapters of a base with a vision tower, from before transformers renamed its weights --------

NOW, BEFORE = "model.model.language_model.", "model.language_model.model."


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("gemma")
    small.base(folder)
    return multimodal.put(folder)


@pytest.fixture(scope="module")
def older(gemma, tmp_path_factory):
    """An adapter on such a base: as it is saved now, and with the names of before."""
    folder = tmp_path_factory.mktemp("older")
    layers = r".*language_model.*\.(q_proj|v_proj)"
    tuned = get_peft_model(loading.load(gemma), LoraConfig(r=4, target_modules=layers))
    torch.manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, 0, 0.3)
    tuned.save_pretrained(folder / "now")
    changed(folder / "now", folder / "before", lambda weights: renamed(weights, NOW, BEFORE))
    return folder


def renamed(weights, old, new):
    assert all(old in name for name in weights)
    return {name.replace(old, new): weight for name, weight in weights.items()}


def test_the_older_names_of_weights_are_those_that_peft_knows(gemma, older):
    assert scores(gemma, older / "before") == scores(gemma, older / "now") != scores(gemma, None)


def test_an_adapter_with_older_names_and_a_weight_too_many_is_refused(gemma, older, tmp_path):
    weight = {f"base_model.{BEFORE}layers.7.mlp.up_proj.lora_A.weight": torch.ones(4, 8)}
    more = changed(older / "before", tmp_path / "more", lambda weights: weights | weight)
    with pytest.raises(StudyError, match=r"1 of 9 weights .* such as .*layers\.7\.mlp"):
        scores(gemma, more)


def test_older_names_of_another_model_fit_nothing(gemma, older, tmp_path):
    other = changed(
        older / "before", tmp_path / "other", lambda weights: renamed(weights, BEFORE, "encoder.")
    )
    with pytest.raises(StudyError, match="8 of 8 weights of the adapter .*other fit nothing"):
        scores(gemma, other)


@pytest.mark.parametrize("names", ["now", "before"])
def test_an_adapter_that_lacks_weights_is_refused(gemma, older, names, tmp_path):
    short = changed(
        older / names, tmp_path / names, lambda weights: dict(list(weights.items())[2:])
    )
    with pytest.raises(StudyError, match="lacks 2 weights that its adapter_config.json asks for"):
        scores(gemma, short)


def test_an_adapter_of_a_plain_base_that_lacks_weights_is_refused(base, adapter, tmp_path):
    short = changed(adapter, tmp_path / "short", lambda weights: dict(list(weights.items())[1:]))
    with pytest.raises(StudyError, match="lacks 1 weights .*: copy or download it again"):
        scores(base, short)
