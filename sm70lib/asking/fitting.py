"""Fits one prompt into the model's context: as token ids, or not at all, with a reason."""

from __future__ import annotations

import pickle
from functools import lru_cache

from sm70lib.asking.prompts import Prompt
from sm70lib.corpus.tokens import chat_ids, prompt_ids, response_ids, unknown
from sm70lib.models.request import Request
from sm70lib.protocols.protocol import Protocol

Pairs = list[tuple[list[int], list[int]]]  # token ids of the prompt and of an option, per option


def usable(
    prompt: Prompt,
    protocol: Protocol,
    tokenizer,
    limit: int,
    listed: dict | None,
    rows: int | None = None,
) -> list[Request]:
    """An item's requests, cut on the left to the context.

    Options share one context, unless each option needs a cut of its own; then each option is a
    request of its own. The cut takes the BOS first, as in the harness. If the model writes, nothing
    is cut, and the one request has no options.

    Args:
        prompt: what is asked.
        protocol: how it is asked.
        tokenizer: the model's tokenizer; None if only a server has it, which counts tokens itself.
        limit: tokens of the context, for prompt and answer together.
        listed: receives the item, if it is left out (`skipped`) or cut (`cut`); None: no list.
        rows: rows of the model's input embeddings; None if only its server knows them.

    Returns:
        The requests; none if the item cannot be scored.
    """
    if tokenizer is None:
        return [Request([], [], conversation=prompt.text)]
    pairs = _pairs(prompt, protocol, tokenizer)
    # The last token of an answer is only predicted, never read, so it needs no room.
    rooms = [limit + 1 - max(len(option), protocol.max_new_tokens) for _, option in pairs]
    too_long = any(len(context) > room for (context, _), room in zip(pairs, rooms))
    reason = _unusable(prompt, protocol, limit, pairs, rooms, too_long)
    reason = reason or _unread(pairs, rows, tokenizer)
    if reason:
        if listed is not None:
            skipped = {"item_id": prompt.item.id, "seed": prompt.seed, "reason": reason}
            listed["skipped"].append(skipped)
        return []
    if too_long and listed is not None:
        listed["cut"].append(prompt.item.id)
    if protocol.reads:
        context, _ = pairs[0]
        return [Request(context, [])]
    contexts = [context[-room:] for (context, _), room in zip(pairs, rooms)]
    options = [option for _, option in pairs]
    if all(context == contexts[0] for context in contexts):
        return [Request(contexts[0], options)]
    return [Request(context, [option]) for context, option in zip(contexts, options)]


def _pairs(prompt: Prompt, protocol: Protocol, tokenizer) -> Pairs:
    """Prompt and options as tokens; one pair without an option if the model writes."""
    if protocol.reads:
        return [(_read(prompt, tokenizer), [])]
    if protocol.in_template:
        return _as_in_training(prompt, tokenizer)
    return _tokenised(prompt.text, prompt.answers, tokenizer, protocol.bos)


def _unusable(
    prompt: Prompt,
    protocol: Protocol,
    limit: int,
    pairs: Pairs,
    rooms: list[int],
    too_long: bool,
) -> str | None:
    """Why an item cannot be scored; None if it can."""
    if not all(answer.strip() for answer in prompt.answers):
        return "an option is empty"
    if prompt.item.answer not in range(len(prompt.answers)):
        return "no right option"
    if protocol.reads and too_long:
        return f"prompt and reply are longer than the context of {limit} tokens"
    if min(rooms) < 1:
        return f"an option fills the context of {limit} tokens"
    if not protocol.reads and not all(option for _, option in pairs):
        return "an option merges with the prompt into one token"
    return None


def _unread(pairs: Pairs, rows: int | None, tokenizer) -> str | None:
    """Why a model cannot read an item; None if it can."""
    for context, option in pairs:
        token = unknown(context, rows, tokenizer) or unknown(option, rows, tokenizer)
        if token:
            return f"it spells out {token}, for which the model has no embedding"
    return None


def _read(prompt: Prompt, tokenizer) -> list[int]:
    """The tokens after which a model writes: a training row's prompt, or a chat."""
    if prompt.chat:
        return chat_ids(prompt.text, tokenizer)
    if prompt.trained:
        return tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
    return prompt_ids([prompt.text], tokenizer)[0]


def _as_in_training(prompt: Prompt, tokenizer) -> Pairs:
    """Prompt and answers as tokens, as in a training row: tokenised separately but in `chat`."""
    context = _read(prompt, tokenizer)
    if prompt.trained:
        return _in_one(context, prompt, tokenizer)
    return [(context, ids) for ids in response_ids(prompt.answers, tokenizer)]


def _in_one(context: list[int], prompt: Prompt, tokenizer) -> Pairs:
    """Prompt and answers as tokens, tokenised together, as a row in the template `chat` is.

    An option is empty if it merges with the prompt, for which a training row would be left out.
    """
    texts = [prompt.text + answer for answer in prompt.answers]
    whole = tokenizer(texts, add_special_tokens=False)["input_ids"]
    length = len(context)
    return [(context, ids[length:] if ids[:length] == context else []) for ids in whole]


def _tokenised(text: str, answers: list[str], tokenizer, bos: str) -> Pairs:
    """Prompt and answers as tokens to score, tokenised together and split by count.

    This is the harness's way. White space at the end of the prompt belongs to the answer. The
    context is the tokens of the prompt alone, even if the tokenizer would merge its end with the
    answer. `bos` is the protocol's.
    """
    start = text.rstrip()
    whole_texts = [text + answer for answer in answers]
    first, *whole = tokenizer([start, *whole_texts], add_special_tokens=False)["input_ids"]
    context = [*beginning(start, tokenizer, bos), *first]
    if not context:  # something must come before the first token of an answer
        context = [tokenizer.eos_token_id]
    return [(context, ids[len(first) :]) for ids in whole]


def beginning(text: str, tokenizer, bos: str) -> list[int]:
    """The tokens that are put before the tokens of a text when answers to it are scored.

    Args:
        text: the text that follows. If it begins with a BOS, as chat templates write it, no second
            one is added.
        tokenizer: the tokenizer of the model.
        bos: "never" adds none. "tokenizer" adds what the tokenizer adds by itself, as
            lm-evaluation-harness 0.4.13 does (`HFLM.tok_encode`). "always" adds a BOS if the
            tokenizer has one.

    Raises:
        ValueError: `bos` is none of these.
    """
    if bos not in ("never", "tokenizer", "always"):
        raise ValueError(f"bos is {bos!r}; allowed are never, tokenizer and always")
    # The harness looks for EOS if there is no BOS.
    first = tokenizer.bos_token or tokenizer.eos_token
    begun = bool(first) and text.startswith(first)
    if bos == "never" or begun:
        return []
    if bos == "always":
        return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if not tokenizer.is_fast:  # it does not say by which rule it adds something
        return [*_added(tokenizer, b"")]
    return [*_remembered(tokenizer, pickle.dumps(tokenizer.backend_tokenizer.post_processor))]


def _added(tokenizer, _rule: bytes) -> tuple[int, ...]:
    """What a tokenizer puts before a text by itself, by the rule that it has now."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    start = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
    return tuple(whole[:start])


_remembered = lru_cache(maxsize=8)(_added)
