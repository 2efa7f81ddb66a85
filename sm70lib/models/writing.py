"""Text that a model on this machine writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

TEMPERATURE = 0.8  # of several draws, as in Meditron (arXiv 2311.16079)


def answer(loaded, tokenizer, prompt: list[int], max_new_tokens: int) -> str:
    """The text that a model writes after a prompt, greedily.

    Args:
        loaded: The model.
        tokenizer: Its tokenizer.
        prompt: Token ids of the prompt.
        max_new_tokens: Most tokens that are written, unless the model's EOS comes first.
    """
    return written(loaded, tokenizer, [prompt], max_new_tokens)[0][0]


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

    Args:
        loaded: The model.
        tokenizer: Its tokenizer.
        prompts: Token ids of each prompt.
        max_new_tokens: Most tokens of a text, unless the model's EOS comes first.
        samples: 1 for greedy text; more for as many draws at TEMPERATURE.
        seed: Seed of the draws.

    Returns:
        For each prompt its `samples` texts.
    """
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor(
        [[tokenizer.pad_token_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts)]
    )
    seen = torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding])
    how: dict[str, Any] = {"do_sample": False}
    if samples > 1:
        how = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0}
        how["num_return_sequences"] = samples
    torch.manual_seed(seed)
    rows = loaded.generate(
        ids.to(loaded.device),
        attention_mask=seen.to(loaded.device),
        use_cache=True,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        **how,
    )
    decoded = tokenizer.batch_decode(rows[:, width:], skip_special_tokens=True)
    texts = [text.strip() for text in decoded]
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]
