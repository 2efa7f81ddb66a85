"""Tokens and labels: the one place where text becomes what a model reads and trains on."""

from dataclasses import dataclass

import pandas as pd

from sm70lib.study.params import StudyError

IGNORED = -100  # the label that the loss skips


# ---- tokens and labels ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """One training row: `labels` repeats `input_ids` where the loss counts; `cut` input tokens are gone."""

    input_ids: list[int]
    labels: list[int]
    cut: int = 0

    @property
    def targets(self) -> int:
        """Tokens that the loss counts."""
        return len(self.labels) - self.labels.count(IGNORED)


def pieces(whole: Encoded, length: int) -> list[Encoded]:
    """A document in pieces of at most `length` tokens: BOS stands in the first, EOS in the last."""
    starts = range(0, len(whole.input_ids), length)
    return [Encoded(whole.input_ids[n : n + length], whole.labels[n : n + length]) for n in starts]


def beginning(text: str, tokenizer, bos: str) -> list[int]:
    """The tokens that stand in front of a text's own where answers to it are scored.

    Args:
        text: what follows; a BOS that it begins with, as chat templates write one, is not doubled.
        bos: "never" one; as the "tokenizer" does by itself (lm-evaluation-harness 0.4.13,
            `HFLM.tok_encode`, which leaves that to the tokenizer); "always", where it has one.

    Raises:
        ValueError: for another `bos`.
    """
    if bos not in ("never", "tokenizer", "always"):
        raise ValueError(f"bos is {bos!r}; allowed are never, tokenizer and always")
    first = tokenizer.bos_token or tokenizer.eos_token  # the harness looks for EOS where no BOS is
    if bos == "never" or first and text.startswith(first):
        return []
    if bos == "always":
        return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    bare, whole = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (False, True))
    start = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
    return whole[:start]


def prompt_ids(texts: list[str], tokenizer) -> list[list[int]]:
    """What a model reads before it writes: BOS, if the tokenizer has one, and a prompt's tokens.

    Training rows begin with it, and a model that was trained on them is asked with it. White space
    at the end stays, and a special token that the text spells out is text.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [[*bos, *ids] for ids in _tokens(tokenizer, texts)["input_ids"]]


def response_ids(texts: list[str], tokenizer) -> list[list[int]]:
    """The tokens that training puts behind a prompt, without EOS."""
    return _tokens(tokenizer, texts)["input_ids"]


def chat_ids(text: str, tokenizer) -> list[int]:
    """The same in a chat template, which has written its own special tokens, and often the BOS."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def encode_batch(
    texts: list[tuple[str, str, tuple[int, int]]],
    tokenizer,
    max_length: int,
    overlong: str,
    loss: str,
) -> list[Encoded | str]:
    """For each (prompt, response, middle) BOS, prompt, response and EOS with their labels, or why it is unusable.

    Prompt and response are tokenised apart and joined, so the mask needs no search. A row of more than
    `max_length` tokens is unusable (`overlong` drop) or loses the end of its input, which stands at
    `prompt[slice(*middle)]` (cut); headers and response stay whole. `loss` is response or all; a row without
    prompt (plain text) trains on all its tokens. Raises StudyError if the tokenizer lacks BOS or EOS.
    """
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise StudyError(
            f"base_model: the tokenizer {tokenizer.name_or_path!r} lacks a BOS or an EOS token; "
            "choose a base that has both."
        )
    prompts = prompt_ids([text[0] for text in texts], tokenizer)
    responses = response_ids([text[1] for text in texts], tokenizer)
    encoded = []
    for text, prompt, response in zip(texts, prompts, responses):
        kept, room = prompt, max_length - len(response) - 1
        if overlong == "cut" and 1 <= room < len(prompt):
            kept = [tokenizer.bos_token_id, *_cut(tokenizer, text[0], *text[2], room - 1)]
        encoded.append(
            _unusable(kept, response, room)
            or _join(tokenizer, kept, response, loss, len(prompt) - len(kept))
        )
    return encoded


def _unusable(prompt: list[int], response: list[int], room: int) -> str | None:
    if not response:
        return "response without a token"
    if room < 1:  # BOS alone needs one
        return "response longer than data_max_length"
    return "prompt too long for data_max_length" if len(prompt) > room else None


def _join(tokenizer, prompt: list[int], response: list[int], loss: str, cut: int) -> Encoded:
    ids = [*prompt, *response, tokenizer.eos_token_id]
    assert tokenizer.bos_token_id not in ids[1:-1], "a row has exactly one BOS, at its start"
    masked = (
        len(prompt) if loss == "response" else 1
    )  # nothing comes before BOS that could predict it
    return Encoded(ids, [IGNORED] * masked + ids[masked:], cut)


def _tokens(tokenizer, texts: list[str], **options):
    # split_special_tokens: a "</s>" inside a data field stays text, and ends or starts nothing
    return tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
        **options,
    )


def _cut(tokenizer, prompt: str, start: int, end: int, room: int) -> list[int]:
    """The prompt's tokens after taking the end of its input (characters start to end) off, token by token."""
    while True:  # tokens may merge anew at the seam, so once is not always enough
        found = _tokens(tokenizer, [prompt], return_offsets_mapping=True)
        tokens, offsets = found["input_ids"][0], found["offset_mapping"][0]
        if (over := len(tokens) - room) <= 0 or start == end:
            return tokens
        inside = [first for first, _ in offsets if start <= first < end]
        seam = inside[-over] if over <= len(inside) else start
        prompt, end = prompt[:seam] + prompt[end:], seam


def show(input_ids: list[int], labels: list[int], tokenizer) -> pd.DataFrame:
    """One line per token: its id, its text, and the text of its label (empty where the loss skips it)."""
    text = [tokenizer.decode([token]) for token in input_ids]
    label = ["" if label == IGNORED else tokenizer.decode([label]) for label in labels]
    return pd.DataFrame({"token": input_ids, "text": text, "label": label})
