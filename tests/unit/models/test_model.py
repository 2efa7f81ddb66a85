"""The bitsandbytes trap on CPUs is shut, and only what may be loaded is loaded."""

import copy

import pytest
import torch

from sm70lib.models import loading
from sm70lib.study.params import StudyError
from tests import small
from tests.small import with_adapter


def gradients(wrapped, ids) -> dict[str, torch.Tensor]:
    wrapped.zero_grad()
    wrapped(input_ids=ids, labels=ids).loss.backward()
    return {
        name: weight.grad.clone()
        for name, weight in wrapped.named_parameters()
        if weight.requires_grad
    }


def test_gradients_after_an_evaluation_pass_equal_those_of_the_dequantised_copy(tmp_path):
    p = small.base(tmp_path)
    quantised = loading.load(tmp_path / "base/model", p)
    assert (
        loading.shut_cpu_inference_kernel(quantised) == 14
    )  # seven linear layers in each of two blocks
    plain = copy.deepcopy(quantised).dequantize()
    quantised, plain = with_adapter(quantised), with_adapter(plain)
    ids = torch.randint(
        3, quantised.config.vocab_size, (4, 40), generator=torch.Generator().manual_seed(2)
    )
    with torch.no_grad():
        quantised.eval()(input_ids=ids)  # what used to repack the weights
    found, right = gradients(quantised.train(), ids), gradients(plain, ids)
    assert len(found) == 28 and found.keys() == right.keys()
    for name in found:
        assert torch.norm(found[name] - right[name]) < 1e-3 * torch.norm(right[name]), name


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="run 00_base first"):
        loading.load(tmp_path / "nothing")


def test_a_pickle_is_not_loaded(tmp_path):
    small.base(tmp_path)
    (weights := tmp_path / "base/model/model.safetensors").unlink()
    torch.save(
        {"model.embed_tokens.weight": torch.zeros(1)}, weights.with_name("pytorch_model.bin")
    )
    with pytest.raises(StudyError, match="pytorch_model.bin, and only safetensors are read"):
        loading.load(tmp_path / "base/model")


@torch.inference_mode()
def test_packed_rows_do_not_see_each_other(tmp_path):
    small.base(tmp_path)
    loaded = loading.load(tmp_path / "base/model")
    generator = torch.Generator().manual_seed(4)
    rows = [torch.randint(3, 500, (n,), generator=generator) for n in (7, 1, 30, 12)]
    alone = torch.cat([loaded(input_ids=row[None]).logits[0] for row in rows])
    packed = {
        "input_ids": torch.cat(rows)[None],
        "position_ids": torch.cat([torch.arange(len(row)) for row in rows])[None],
    }
    bounds = torch.tensor([0, 7, 8, 38, 50], dtype=torch.int32)
    assert not torch.backends.cuda.cudnn_sdp_enabled(), "one plan for each length"
    masked = loaded(**packed, use_cache=False).logits[0]
    loaded.set_attn_implementation("packed")
    found = loaded(**packed, cu_seq_lens_q=bounds, use_cache=False).logits[0]
    assert (
        len(found) == 50
        and (found - alone).abs().max() < 1e-4
        and (masked - alone).abs().max() < 1e-4
    )
    assert (loaded(input_ids=packed["input_ids"]).logits[0] - alone).abs().max() > 1e-2, (
        "the test can fail"
    )
    with pytest.raises(ValueError, match="would see each other"):
        loaded(**packed, use_cache=False)
    padded = {
        "input_ids": torch.stack(
            [rows[2], rows[3].new_zeros(30).index_copy(0, torch.arange(12), rows[3])]
        ),
        "attention_mask": torch.tensor([[1] * 30, [1] * 12 + [0] * 18]),
    }
    assert (loaded(**padded, use_cache=False).logits[1, :12] - alone[-12:]).abs().max() < 1e-4, (
        "padding has its mask"
    )
