"""The bitsandbytes trap on CPUs is shut, and only what may be loaded is loaded."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sm70lib import model
from sm70lib.params import StudyError
from tests import small


def with_adapter(loaded):
    """The same adapter on any copy of the base: both matrices random, so that both get a gradient."""
    torch.manual_seed(0)
    wrapped = get_peft_model(loaded, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(1)
    for name, weight in sorted(wrapped.named_parameters()):
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05
    return wrapped.train()


def gradients(wrapped, ids) -> dict[str, torch.Tensor]:
    wrapped.zero_grad()
    wrapped(input_ids=ids, labels=ids).loss.backward()
    return {name: weight.grad.clone() for name, weight in wrapped.named_parameters() if weight.requires_grad}


def test_gradients_after_an_evaluation_pass_equal_those_of_the_dequantised_copy(tmp_path):
    p = small.base(tmp_path)
    quantised = model.load(tmp_path / "base/model", p)
    assert model.shut_cpu_inference_kernel(quantised) == 14  # seven linear layers in each of two blocks
    plain = copy.deepcopy(quantised).dequantize()
    quantised, plain = with_adapter(quantised), with_adapter(plain)
    ids = torch.randint(3, quantised.config.vocab_size, (4, 40), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        quantised.eval()(input_ids=ids)  # what used to repack the weights
    found, right = gradients(quantised.train(), ids), gradients(plain, ids)
    assert len(found) == 28 and found.keys() == right.keys()
    for name in found:
        assert torch.norm(found[name] - right[name]) < 1e-3 * torch.norm(right[name]), name


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="run 00_base first"):
        model.load(tmp_path / "nothing")


def test_a_pickle_is_not_loaded(tmp_path):
    small.base(tmp_path)
    (weights := tmp_path / "base/model/model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": torch.zeros(1)}, weights.with_name("pytorch_model.bin"))
    with pytest.raises(OSError, match="safetensors"):
        model.load(tmp_path / "base/model")
