"""A base whose text stands beside a vision tower is looked at as any other."""

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from sm70lib.evaluation import candidates
from sm70lib.inspection.look import look
from sm70lib.models import loading
from sm70lib.models.adapters import WEIGHTS
from tests import multimodal, small


def test_an_adapter_with_the_older_names_of_its_weights_fits(tmp_path):
    p = small.base(
        tmp_path,
        eval_models={},
        eval_protocols=["sm70-2023"],
        eval_shots=[0],
        eval_batch_tokens=512,
    )
    base, adapter = multimodal.put(tmp_path), tmp_path / "adapter"
    layers = r".*language_model.*\.q_proj"
    get_peft_model(loading.load(base), LoraConfig(r=4, target_modules=layers)).save_pretrained(
        adapter
    )
    older = {
        name.replace("model.language_model.", "language_model.model."): torch.ones_like(weight)
        for name, weight in load_file(adapter / WEIGHTS).items()
    }
    save_file(older, adapter / WEIGHTS, metadata={"format": "pt"})
    p.eval_models["mine"] = f"{base} adapter={adapter}"
    said = look(candidates.described("mine", p.eval_models["mine"]), p)
    assert "mine: gemma3, " in said and "adapter of 4 weights, all of which fit" in said
