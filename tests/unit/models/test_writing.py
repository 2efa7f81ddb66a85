"""A reply ends where its model's files say, in any of three places."""

import copy

import pytest
import torch
from transformers import GenerationConfig

from sm70lib.models import loading, writing
from tests import small

TURN = (
    "{% for message in messages %}<|im_start|>{{ message.role }} {{ message.content }}<|im_end|> "
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
# Reasoning ends at <|end|>, the reply at <|return|> (gpt-oss)
CHANNELS = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}"
    "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}"
)
REFUSES = "{{ raise_exception('only one turn') }}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A random model, and a tokenizer with marks of turns."""
    folder = tmp_path_factory.mktemp("base")
    small.base(folder)
    tokenizer = loading.load_tokenizer(folder / "base/model")
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<|end|>", "<|return|>"])
    loaded = loading.load(folder / "base/model")
    loaded.resize_token_embeddings(len(tokenizer))
    return loaded, tokenizer


@pytest.mark.parametrize(
    "named, template, ends",
    [
        (None, None, {"</s>"}),
        (["<|end|>", "<pad>"], None, {"</s>", "<|end|>", "<pad>"}),
        ("<|end|>", TURN, {"</s>", "<|end|>", "<|im_end|>"}),
        (None, TURN, {"</s>", "<|im_end|>"}),
        ("<|return|>", CHANNELS, {"</s>", "<|return|>"}),
        (None, REFUSES, {"</s>"}),
    ],
)
def test_end_tokens_are_those_of_all_files(made, named, template, ends):
    tokenizer = copy.deepcopy(made[1])
    tokenizer.chat_template = template
    ids = tokenizer.convert_tokens_to_ids(named) if named else None
    found = writing.end_tokens(GenerationConfig(eos_token_id=ids), tokenizer)
    assert set(tokenizer.convert_ids_to_tokens(found)) == ends


def test_a_reply_stops_at_the_end_of_its_turn(made, monkeypatch):
    """The model writes the numbers 300 to 303 and then <|im_end|>, whatever it is asked."""
    loaded, tokenizer = made
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    script = [300, 301, 302, 303, end, 304, 305, 306]
    prompts = [[5, 6, 7], [5]]
    forward = loaded.forward

    def scripted(input_ids, *given, position_ids=None, **named):
        answer = forward(input_ids, *given, position_ids=position_ids, **named)
        place = scripted.calls
        scripted.calls += 1
        answer.logits[:] = -100.0
        answer.logits[..., script[place]] = 0.0
        return answer

    scripted.calls = 0
    monkeypatch.setattr(loaded, "forward", scripted)
    monkeypatch.setattr(tokenizer, "chat_template", TURN)
    first, second = writing.written(loaded, tokenizer, prompts, 8)
    assert first == second == [tokenizer.decode(script[:4]).strip()]
    assert scripted.calls == 5


def test_prompts_are_filled_up_with_what_the_model_knows(made, monkeypatch):
    """Many tokenizers have a pad token for which the model has no embedding."""
    loaded, tokenizer = made
    right = writing.written(loaded, tokenizer, [[5, 6, 7, 8], [5, 6]], 4)
    torch.manual_seed(0)
    monkeypatch.setattr(type(tokenizer), "pad_token_id", 10**6, raising=False)
    assert writing.written(loaded, tokenizer, [[5, 6, 7, 8], [5, 6]], 4) == right
