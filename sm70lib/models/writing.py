"""Text that a model on this machine writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jinja2.exceptions import TemplateError

from sm70lib.corpus.templates import chat_template_of, in_chat
from sm70lib.models.loading import Pair

TEMPERATURE = 0.8  # of several draws, as in Meditron (arXiv 2311.16079)
# `generate` takes from a checkpoint's generation_config.json whatever it is not given, and some
# checkpoints punish repetition there or sample by top_p. These values turn all of that off.
PLAIN: dict[str, Any] = {
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    **dict.fromkeys(
        (
            "min_new_tokens",
            "max_time",
            "stop_strings",
            "bad_words_ids",
            "sequence_bias",
            "suppress_tokens",
            "begin_suppress_tokens",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "exponential_decay_length_penalty",
            "guidance_scale",
            "watermarking_config",
            "penalty_alpha",
            "dola_layers",
            "prompt_lookup_num_tokens",
            "assistant_early_exit",
        )
    ),
}
SAMPLED: dict[str, Any] = {  # draws from the whole distribution
    "do_sample": True,
    "temperature": TEMPERATURE,
    "top_k": 0,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "min_p": None,
    "top_h": None,
}


def answer(loaded, tokenizer, prompt: list[int], max_new_tokens: int) -> str:
    """The text that a model writes after a prompt, greedily.

    Args:
        loaded: The model.
        tokenizer: Its tokenizer.
        prompt: Token ids of the prompt.
        max_new_tokens: Most tokens that are written, unless an end token comes first.
    """
    return written(loaded, tokenizer, [prompt], max_new_tokens)[0][0]


def beside_base(
    pair: Pair, tokenizer, prompts: Sequence[list[int]], max_new_tokens: int
) -> list[tuple[str, str]]:
    """What the base and the trained model write after each prompt, greedily.

    Args:
        pair: The two models.
        tokenizer: Their tokenizer.
        prompts: Token ids of each prompt.
        max_new_tokens: Most tokens that are written, unless an end token comes first.
    """
    sides = []
    for tuned in (False, True):
        with pair.side(tuned) as loaded:
            sides.append([answer(loaded, tokenizer, prompt, max_new_tokens) for prompt in prompts])
    return list(zip(*sides))


@torch.inference_mode()
def written(
    loaded,
    tokenizer,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    samples: int = 1,
    seed: int = 0,
) -> list[list[str]]:
    """The texts that a model writes after each prompt.

    Of a checkpoint's generation_config.json only the end tokens count (see PLAIN).

    Args:
        loaded: The model.
        tokenizer: Its tokenizer.
        prompts: Token ids of each prompt.
        max_new_tokens: Most tokens of a text, unless an end token comes first (see `end_tokens`).
        samples: 1 for greedy text; more for as many draws at TEMPERATURE.
        seed: Seed of the draws.

    Returns:
        For each prompt its `samples` texts.
    """
    ends = end_tokens(loaded.generation_config, tokenizer)
    pad = _pad(loaded, tokenizer)
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([[pad] * count + list(prompt) for count, prompt in zip(padding, prompts)])
    seen = torch.tensor([[0] * count + [1] * (width - count) for count in padding])
    how: dict[str, Any] = {"do_sample": False, "num_return_sequences": 1}
    if samples > 1:
        how = SAMPLED | {"num_return_sequences": samples}
    torch.manual_seed(seed)
    rows = loaded.generate(
        ids.to(loaded.device),
        attention_mask=seen.to(loaded.device),
        use_cache=True,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        eos_token_id=ends or None,
        **PLAIN,
        **how,
    )
    replies = [_before_end(row, ends) for row in rows[:, width:].tolist()]
    added = tokenizer.get_added_vocab()
    spoken = [_final(reply, tokenizer, added) for reply in replies]
    decoded = tokenizer.batch_decode(spoken, skip_special_tokens=True)
    texts = [text.strip() for text in decoded]
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def end_tokens(generation_config, tokenizer) -> list[int]:
    """The ids of all tokens that end a reply.

    They are those of the model's `generation_config.json`, the tokenizer's EOS, and what its chat
    template writes behind a last reply, such as `<|im_end|>`. Many checkpoints name only some.

    Args:
        generation_config: The model's.
        tokenizer: Its tokenizer.
    """
    named = generation_config.eos_token_id
    ends = list(named) if isinstance(named, (list, tuple)) else [named]
    return sorted({*ends, tokenizer.eos_token_id, _end_of_turn(tokenizer)} - {None})


def _end_of_turn(tokenizer) -> int | None:
    """The special token that the chat template writes behind a last reply; None without one."""
    if not chat_template_of(tokenizer):
        return None
    reply = "reply"
    talk = [{"role": "user", "content": "question"}, {"role": "assistant", "content": reply}]
    try:
        text = in_chat(tokenizer, talk)
    except TemplateError:
        return None
    behind = tokenizer(text[text.rfind(reply) + len(reply) :], add_special_tokens=False)
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return next((token for token in behind["input_ids"] if token in special), None)


def _pad(loaded, tokenizer) -> int:
    """An id to fill up short prompts with; it is masked, so any that the model knows will do."""
    pad = tokenizer.pad_token_id
    known = pad is not None and pad < loaded.get_input_embeddings().weight.shape[0]
    return pad if known else 0


def _before_end(ids: list[int], ends: list[int]) -> list[int]:
    """The tokens before the first end token, which a tokenizer may not count as special."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[:first]


def _final(ids: list[int], tokenizer, added: dict[str, int]) -> list[int]:
    """What a reply says in its final channel; all of it, if it has no channels.

    gpt-oss reasons in others: `<|channel|>analysis<|message|>...<|channel|>final<|message|>...`.
    Without their marks the reasoning would be read as the answer.
    """
    channel, message = added.get("<|channel|>"), added.get("<|message|>")
    if channel is None or channel not in ids:
        return ids
    last = ids[len(ids) - ids[::-1].index(channel) :]
    start = last.index(message) + 1 if message in last else len(last)
    named = tokenizer.decode(last[:start], skip_special_tokens=True).strip()
    return last[start:] if named == "final" else []
