"""Packed scoring gives what scoring every option alone gives, whatever the batch and the padding."""

import random

import pytest
import torch

from sm70lib import model, score
from sm70lib.score import Request
from tests import small


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    small.base(folder)
    return model.load(folder / "base/model")


def requests(count: int, vocabulary: int) -> list[Request]:
    draw = random.Random(1)
    ids = lambda n: [draw.randrange(3, vocabulary) for _ in range(n)]
    return [Request(ids(draw.randint(1, 60)), [ids(draw.randint(1, 9)) for _ in range(draw.randint(1, 6))])
            for _ in range(count)]


@torch.no_grad()
def alone(loaded, context: list[int], option: list[int]) -> float:
    """Plain transformers: the whole sequence, all logits."""
    logits = loaded(input_ids=torch.tensor([context + option])).logits[0].log_softmax(-1)
    return sum(logits[len(context) - 1 + place, token].item() for place, token in enumerate(option))


def test_packed_equals_one_option_at_a_time(loaded):
    asked = requests(40, loaded.config.vocab_size)
    packed = score.loglikelihoods(loaded, asked, pad_id=2)
    checked = 0
    for request, values in zip(asked, packed, strict=True):
        for option, value in zip(request.options, values, strict=True):
            assert value == pytest.approx(alone(loaded, request.context, option), abs=1e-4)
            checked += 1
    assert checked > 100


def test_batch_and_padding_do_not_matter(loaded):
    asked = requests(12, loaded.config.vocab_size)
    together = score.loglikelihoods(loaded, asked, pad_id=2)
    singly = [score.loglikelihoods(loaded, [request], pad_id=0)[0] for request in asked]
    assert len(singly) == 12
    for a, b in zip(together, singly, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_batches_hold_every_group_once_within_the_limit():
    asked = [(request,) for request in requests(200, 600)] + [tuple(requests(3, 600))]
    found = score.batches(asked, batch_tokens=400)
    assert sorted(index for batch in found for index in batch) == list(range(201))
    for batch in found:
        rows = sum(len(asked[index]) for index in batch)
        width = max(request.length for index in batch for request in asked[index])
        assert rows * width <= 400 or len(batch) == 1
    assert found == score.batches(list(asked), batch_tokens=400)
