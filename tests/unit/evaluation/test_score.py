"""Packed scoring gives what scoring every option alone gives, whatever stands beside it."""

import random

import pytest
import torch

from sm70lib.models import loading, local
from sm70lib.models.request import Request
from tests import small


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    small.base(folder)
    return loading.load(folder / "base/model")


def requests(count: int, vocabulary: int) -> list[Request]:
    draw = random.Random(1)

    def ids(n: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(n)]

    return [
        Request(
            ids(draw.randint(1, 60)), [ids(draw.randint(1, 9)) for _ in range(draw.randint(1, 6))]
        )
        for _ in range(count)
    ]


@torch.no_grad()
def alone(loaded, context: list[int], option: list[int]) -> float:
    """Plain transformers: the whole sequence, all logits."""
    logits = loaded(input_ids=torch.tensor([context + option])).logits[0].log_softmax(-1)
    return sum(logits[len(context) - 1 + place, token].item() for place, token in enumerate(option))


def test_packed_equals_one_option_at_a_time(loaded):
    asked = requests(40, loaded.config.vocab_size)
    packed = local.loglikelihoods(loaded, asked)
    checked = 0
    for request, values in zip(asked, packed, strict=True):
        for option, value in zip(request.options, values, strict=True):
            assert value == pytest.approx(alone(loaded, request.context, option), abs=1e-4)
            checked += 1
    assert checked > 100


def test_what_else_is_in_the_batch_does_not_matter(loaded):
    asked = requests(12, loaded.config.vocab_size)
    together = local.loglikelihoods(loaded, asked)
    singly = [local.loglikelihoods(loaded, [request])[0] for request in asked]
    assert len(singly) == 12
    for a, b in zip(together, singly, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.parametrize("longest", [9, 1])
def test_a_shared_prefix_and_prompts_that_follow_it_change_nothing(loaded, longest):
    """The prefix is computed once and remembered; prompts see it, and none sees another."""
    asked = [
        Request(request.context, [option[:longest] for option in request.options])
        for request in requests(12, loaded.config.vocab_size)
    ]
    prefix = requests(1, loaded.config.vocab_size)[0].context[:40] + [5] * 30
    memory = local.remember(loaded, prefix)
    rows = [
        local.loglikelihoods(loaded, asked[:5], memory),
        local.loglikelihoods(loaded, asked[5:], memory),
    ]
    checked = 0
    for request, values in zip(asked, rows[0] + rows[1], strict=True):
        for option, value in zip(request.options, values, strict=True):
            assert value == pytest.approx(alone(loaded, prefix + request.context, option), abs=1e-4)
            checked += 1
    assert checked > 30 and memory[0][0].shape[2] == len(prefix)


def test_logits_are_computed_only_where_an_option_is_predicted(loaded, monkeypatch):
    asked, seen = requests(12, loaded.config.vocab_size), []
    head = loaded.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2]))
    local.loglikelihoods(loaded, asked)
    hook.remove()
    assert seen == [
        sum(1 + sum(len(option) - 1 for option in request.options) for request in asked)
    ]
