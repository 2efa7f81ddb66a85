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
# What a generation_config.json may ask for, the first as in Qwen2.5's
CHANGES: tuple[dict, ...] = (
    {"do_sample": True, "repetition_penalty": 1.05, "top_p": 0.8, "top_k": 20, "temperature": 0.7},
    {"repetition_penalty": 100.0},
    {"no_repeat_ngram_size": 1},
    {"num_beams": 3},
    {"suppress_tokens": list(range(300))},
    {"begin_suppress_tokens": list(range(300))},
    {"bad_words_ids": [[token] for token in range(300)]},
    {"sequence_bias": [[[token], 9.0] for token in range(300)]},
    {"forced_bos_token_id": 300, "forced_eos_token_id": 301},
    {"exponential_decay_length_penalty": (1, 9.0)},
    {"prompt_lookup_num_tokens": 3},
    {"stop_strings": ["a"]},
    {"do_sample": True, "top_p": 0.1},
    {"do_sample": True, "min_p": 0.9},
    {"do_sample": True, "typical_p": 0.1},
    {"do_sample": True, "epsilon_cutoff": 0.5},
    {"do_sample": True, "eta_cutoff": 0.5},
    {"do_sample": True, "top_h": 0.1},
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


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<|channel|>analysis<|message|>A? No.<|end|>x<|channel|>final<|message|>B.", "B."),
        ("<|channel|>final<|message|>B.<|end|>", "B."),
        ("<|channel|>analysis<|message|>The user asks. Option A is", ""),
        ("<|channel|>analysis", ""),
        ("<|channel|>", ""),
        ("B. <|message|>", "B."),
        ("B.", "B."),
    ],
)
def test_of_a_reply_in_channels_only_the_final_one_is_read(made, monkeypatch, written, said):
    loaded, tokenizer = made[0], copy.deepcopy(made[1])
    marks = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(loaded, "generate", lambda asked, **how: torch.tensor([[9, *ids]]))
    assert writing.written(loaded, tokenizer, [[9]], 8) == [[said]]


def test_prompts_are_filled_up_with_what_the_model_knows(made, monkeypatch):
    """Many tokenizers have a pad token for which the model has no embedding."""
    loaded, tokenizer = made
    right = writing.written(loaded, tokenizer, [[5, 6, 7, 8], [5, 6]], 4)
    torch.manual_seed(0)
    monkeypatch.setattr(type(tokenizer), "pad_token_id", 10**6, raising=False)
    assert writing.written(loaded, tokenizer, [[5, 6, 7, 8], [5, 6]], 4) == right


@pytest.mark.parametrize("samples", [1, 3])
def test_how_a_checkpoint_would_write_changes_no_text(made, monkeypatch, samples):
    """Greedy is the most likely token, and draws are from the whole distribution."""
    loaded, tokenizer = made
    prompts = [[5, 6, 7, 8], [5, 6]]
    right = writing.written(loaded, tokenizer, prompts, 12, samples)
    for changes in CHANGES:
        about = GenerationConfig(**loaded.generation_config.to_dict() | changes)
        monkeypatch.setattr(loaded, "generation_config", about)
        assert writing.written(loaded, tokenizer, prompts, 12, samples) == right, changes
