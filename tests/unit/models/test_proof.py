"""What the proof of packing says of scores that are no numbers, and where memory runs out."""

import json

import numpy as np
import pytest
import torch

from sm70lib.models import loading, local, proof
from sm70lib.models.proof import PACKED, PLAIN, prove, prove_training
from sm70lib.study.params import StudyError
from tests import small


@pytest.fixture
def folder(tmp_path):
    small.base(tmp_path)
    return tmp_path / "base/model"


@pytest.fixture
def loaded(folder):
    return loading.load(folder)


def overflowing(folder):
    """The base in a checkpoint of float16, with a final norm that leaves its range."""
    model = loading.load(folder)
    model.model.norm.weight.data.fill_(6e4)
    model.get_output_embeddings().weight.data.mul_(100)
    model.half().save_pretrained(folder)


@pytest.mark.parametrize("proved", [prove, prove_training])
def test_a_checkpoint_that_overflows_in_float16_is_refused_and_its_remedy_helps(folder, proved):
    overflowing(folder)
    with pytest.raises(StudyError, match='random prompts: .*nan.* nats, .*set "dtype" in its conf'):
        proved(loading.load(folder), 256)
    about = json.loads((folder / "config.json").read_text())
    assert about["dtype"] == "float16"
    (folder / "config.json").write_text(json.dumps(about | {"dtype": "float32"}))
    proved(loading.load(folder), 256)


def test_nan_behind_a_prefix_alone_is_seen(loaded, monkeypatch):
    real = local.loglikelihoods

    def spoilt(model, asked, prefix=()):
        found = real(model, asked, prefix)
        return [[float("nan")] * len(row) for row in found] if prefix else found

    monkeypatch.setattr(local, "loglikelihoods", spoilt)
    found = prove(loaded, 256)
    assert found.way == PLAIN and np.isnan(found.difference)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_runs_out_is_no_matter_of_the_code(loaded, monkeypatch, error):
    """It would have gone on plainly, "as its code does not pack: CUDA out of memory"."""

    def full(*_):
        raise error

    monkeypatch.setattr(local, "loglikelihoods", full)
    with pytest.raises(type(error), match="memory"):
        prove(loaded, 256)
    assert loaded.config._attn_implementation != "packed", "the model is left as it was"
    monkeypatch.undo()
    assert prove(loaded, 256).way == PACKED


def test_other_errors_of_packing_are_still_a_reason_to_score_plainly(loaded, monkeypatch):
    monkeypatch.setattr(local, "loglikelihoods", lambda *_: int("no"))
    assert prove(loaded, 256).reason.startswith("its code does not pack: invalid literal")


def test_an_option_that_is_ruled_out_may_have_minus_infinity():
    proof.require_numbers(np.array([-1.0, -np.inf]), "item 'a'")
    for wrong in ([-1, np.nan], [-1, np.inf], [-np.inf, -np.inf]):
        with pytest.raises(StudyError, match="item 'a': the model gives the options"):
            proof.require_numbers(np.array(wrong), "item 'a'")
