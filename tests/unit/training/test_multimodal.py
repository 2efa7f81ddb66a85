"""A base whose text stands beside a vision tower is trained, and what it learned is scored."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sm70lib.models import loading
from sm70lib.models.backend import Local
from sm70lib.models.request import Request
from tests import multimodal, tuning

ASKED = [Request([5, 6, 7, 8], [[9], [10, 11]])]


def scores(base: str, adapter=None) -> np.ndarray:
    loaded = loading.load(base, adapter=adapter)
    (values,) = Local(loaded, None, longest=100).loglikelihoods(ASKED)
    return np.array(values)


@torch.no_grad()
def by_peft(base: str, adapter) -> np.ndarray:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    (request,) = ASKED
    values = []
    for option in request.options:
        row = torch.tensor([[*request.context, *option]])
        logs = model(input_ids=row).logits[0].log_softmax(-1)
        start = len(request.context) - 1
        values.append(sum(logs[start + n, token].item() for n, token in enumerate(option)))
    return np.array(values)


@pytest.mark.parametrize("kind", ["nf4", "none"])
def test_an_adapter_of_all_linear_layers_is_saved_without_the_tower_and_scores(tmp_path, kind):
    p = tuning.study(tmp_path, quant_type=kind, sft_steps=3)
    base = multimodal.put(tmp_path)
    adapter = tuning.train(p, tmp_path) / "adapter"
    names = load_file(adapter / "adapter_model.safetensors")
    assert len(names) == 2 * 14 and all(".language_model.layers." in name for name in names)
    about = json.loads((adapter / "adapter_config.json").read_text())
    assert not any(multimodal.TOWER in name for name in about["target_modules"])
    tuned = scores(base, adapter)
    assert np.abs(tuned - by_peft(base, adapter)).max() < 1e-4
    assert np.abs(tuned - scores(base)).max() > 1e-3


def test_the_adapter_of_a_small_llama_is_called_what_it_was_called_before(tmp_path):
    p = tuning.study(tmp_path, sft_steps=1)
    adapter = tuning.train(p, tmp_path) / "adapter"
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    about = json.loads((adapter / "adapter_config.json").read_text())
    named = {name.rpartition(".")[2] for name in about["target_modules"]}
    assert named == {*kinds} and len(about["target_modules"]) == 14
    assert about["exclude_modules"] is None


def test_all_weights_of_such_a_base_are_trained_and_come_back(tmp_path):
    """They are stored under the names that transformers gave them before version 5."""
    p = tuning.study(tmp_path, train_parameters="full", sft_steps=2)
    base = multimodal.put(tmp_path)
    stage = tuning.train(p, tmp_path)
    assert json.loads((stage / "first-step.json").read_text())["max_weight_difference"] == 0
    before, after = (
        dict(loading.load(place).named_parameters()) for place in (base, stage / "model")
    )
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if ".language_model." in name}
