"""Small models under real names, with the tokenizers' habits and the head ratio of the real ones.

A stand-in answers a prompt with one of REPLIES and then stops. Which one depends on the prompt, so
a rehearsal meets refusals, answers and unreadable replies. A stand-in knows nothing: its scores
are chance.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sm70lib.corpus import templates, tokens
from sm70lib.sizes.known import KnownModel
from sm70lib.sources import wordings
from sm70lib.standins import stand_in_tokenizers

WIDTH = 64
LAYERS = 1  # a second one costs a rehearsal eight seconds and shows nothing more
HEADS = 8
# A refusal, a letter, a verdict, and a reply that no rule can read. No two share a token, because
# the last token alone decides what a stand-in writes next.
REPLIES = ("I cannot help.", "Option B", "yes", "...")
# How studies ask (sm70lib/protocols): the instruction, and the form of the input
ASKED = (
    (wordings.TRUTHFULLY, "{}"),
    (wordings.VERDICT, "{}"),
    (wordings.IN_BRACKETS, "Q:{}? \n{{'A': 'one', 'B': 'two'}},"),
)
SHORT = 20  # characters; shorter texts do not tell prompts apart
PROMPTS = 32  # of each form, that the replies are taught with
ENDINGS = (":", "\n", "\n\n", " [/INST]", "[/INST]", "]")  # what prompts end in


def write(about: KnownModel, texts: list[str], folder: Path, seed: int = 0) -> None:
    """Writes a stand-in for a model in the file layout of the hub.

    Args:
        about: the real model.
        texts: what the vocabulary is made from.
        folder: where the files go.
        seed: the same seed gives the same weights.
    """
    tokenizer = stand_in_tokenizers.tokenizer(about, [*texts, *REPLIES * 50])
    tokenizer.save_pretrained(folder)
    model = _model(about, tokenizer, texts, seed)
    model.save_pretrained(folder)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in about.end_tokens]
    _edit(folder / "generation_config.json", bos_token_id=tokenizer.bos_token_id, eos_token_id=ends)


def _edit(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values, indent=1, sort_keys=True))


def _model(
    about: KnownModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int
) -> LlamaForCausalLM:
    """A small Llama in 16 bits that has been taught to write REPLIES."""
    torch.manual_seed(seed)
    real = about.config
    queries_per_key = real.num_attention_heads // real.num_key_value_heads
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=max(HEADS // queries_per_key, 1),
        max_position_embeddings=real.max_position_embeddings,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.02,
    )
    model = LlamaForCausalLM(config)
    _teach_replies(model, tokenizer, _prompts(tokenizer, texts))
    return model.bfloat16()


def _prompts(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[list[int]]]:
    """Token ids of prompts about a few texts, grouped by the form and template a study may use."""
    step = max(1, len(texts) // PROMPTS)
    few = [text for text in texts if len(text) > SHORT][::step]
    groups = []
    for instruction, form in ASKED:
        inputs = [form.format(text) for text in few]
        for name in templates.TEMPLATES:
            prompts = [templates.render(name, instruction, text) for text in inputs]
            groups.append(tokens.prompt_ids(prompts, tokenizer))
        if tokenizer.chat_template:
            chats = _chats(tokenizer, [f"{instruction}\n\n{text}" for text in inputs])
            groups.append([tokens.chat_ids(chat, tokenizer) for chat in chats])
    return groups


def _chats(tokenizer: PreTrainedTokenizerFast, requests: list[str]) -> list[str]:
    """Each request as a conversation in the tokenizer's chat format, up to the reply."""
    conversations = [[{"role": "user", "content": request}] for request in requests]
    chats = tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True)
    return cast("list[str]", chats)  # a text for each conversation, as `tokenize` is off


@torch.no_grad()
def _teach_replies(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, groups: list[list[list[int]]]
) -> None:
    """Teaches the output layer to continue replies token by token, and to choose one by the prompt.

    Token embeddings are nearly orthogonal, with length 8. Layers add little to them, and the norm
    before the output layer keeps their length. So the output row of a token gains about 8 logits
    after another token when the embedding of that other token is added to it.

    After a prompt the first tokens of all replies gain the same. To choose between them, each also
    gets a random direction. This direction is orthogonal to the prompt endings and to what the
    prompts of each group have in common, so that only what is special to a prompt decides.

    Args:
        model: changed in place.
        tokenizer: the model's.
        groups: token ids of prompts, grouped by form and template.
    """
    weight = model.model.embed_tokens.weight
    embedding = torch.nn.functional.normalize(torch.randn_like(weight), dim=1)
    weight.copy_(WIDTH**0.5 * embedding)
    for layer in model.model.layers:
        layer.self_attn.v_proj.weight.mul_(8)
        layer.self_attn.o_proj.weight.mul_(8)
    pairs, endings = _pairs(tokenizer)
    first = sorted({following for token, following in pairs if token in endings})
    shared = torch.cat([embedding[sorted(endings)], _means(model, groups)])
    basis, _ = torch.linalg.qr(shared.T)
    random = torch.nn.functional.normalize(torch.randn(len(first), WIDTH), dim=1)
    model.lm_head.weight[first] = random - random @ basis @ basis.T
    for token, following in sorted(pairs):
        model.lm_head.weight[following] += embedding[token]


def _means(model: LlamaForCausalLM, groups: list[list[list[int]]]) -> torch.Tensor:
    """What the output layer sees at the end of a prompt, as each group's mean, (groups, width)."""
    means = []
    for prompts in groups:
        states = torch.stack([_last_state(model, ids) for ids in prompts])
        means.append(states.mean(0))
    return torch.stack(means)


def _last_state(model: LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    states = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
    return states[0, -1]


def _pairs(tokenizer: PreTrainedTokenizerFast) -> tuple[set[tuple[int, int]], set[int]]:
    """Which token follows which, from the end of a prompt to the end of a reply.

    Returns:
        Pairs of token and following token, and the last tokens of all prompt endings.
    """
    pairs, endings = set(), set()
    for ending in ENDINGS:
        before = tokenizer(ending, add_special_tokens=False)["input_ids"]
        endings.add(before[-1])
        for reply in REPLIES:
            whole = tokenizer(ending + reply, add_special_tokens=False)["input_ids"]
            kept = len(before)
            if whole[:kept] != before:  # the last token merged with the reply
                kept -= 1
            after = [*whole[kept:], tokenizer.eos_token_id]
            pairs |= set(zip([before[-1], *after], after))
    return pairs, endings
