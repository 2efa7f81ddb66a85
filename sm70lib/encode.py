"""Tokens and labels: the single place where a prompt and its response become what the model trains on."""

from dataclasses import dataclass

import pandas as pd

from sm70lib.params import StudyError

IGNORED = -100  # the label that the loss skips


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
    return [Encoded(whole.input_ids[n:n + length], whole.labels[n:n + length]) for n in starts]


def encode(prompt: str, response: str, tokenizer, max_length: int, overlong: str = "cut",
           loss: str = "response", middle: tuple[int, int] = (0, 0)) -> Encoded | str:
    """BOS, prompt, response and EOS as tokens with their labels, or the reason why the row cannot be used.

    Prompt and response are tokenised apart and joined, so the mask needs no search. A row of more than
    `max_length` tokens is unusable (`overlong` drop) or loses the end of its input, which stands at
    `prompt[slice(*middle)]` (cut); headers and response stay whole. `loss` is response or all; a row without
    prompt (plain text) trains on all its tokens. Raises StudyError if the tokenizer lacks BOS or EOS.
    """
    return encode_batch([(prompt, response, middle)], tokenizer, max_length, overlong, loss)[0]


def encode_batch(texts: list[tuple[str, str, tuple[int, int]]], tokenizer, max_length: int, overlong: str,
                 loss: str) -> list[Encoded | str]:
    """`encode` for many (prompt, response, middle) at once, with one call of the tokenizer."""
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise StudyError(f"base_model: the tokenizer {tokenizer.name_or_path!r} lacks a BOS or an EOS token; "
                         "choose a base that has both.")
    tokens = _tokens(tokenizer, [text[0] for text in texts] + [text[1] for text in texts])["input_ids"]
    encoded = []
    for text, prompt, response in zip(texts, tokens, tokens[len(texts):]):
        kept, room = prompt, max_length - len(response) - 2
        if overlong == "cut" and 0 <= room < len(prompt):
            kept = _cut(tokenizer, text[0], *text[2], room)
        encoded.append(_unusable(kept, response, room)
                       or _join(tokenizer, kept, response, loss, len(prompt) - len(kept)))
    return encoded


def _unusable(prompt: list[int], response: list[int], room: int) -> str | None:
    if not response:
        return "response without a token"
    if room < 0:
        return "response longer than data_max_length"
    return "prompt too long for data_max_length" if len(prompt) > room else None


def _join(tokenizer, prompt: list[int], response: list[int], loss: str, cut: int) -> Encoded:
    ids = [tokenizer.bos_token_id, *prompt, *response, tokenizer.eos_token_id]
    assert tokenizer.bos_token_id not in ids[1:-1], "a row has exactly one BOS, at its start"
    masked = 1 + len(prompt) if loss == "response" else 1  # nothing comes before BOS that could predict it
    return Encoded(ids, [IGNORED] * masked + ids[masked:], cut)


def _tokens(tokenizer, texts: list[str], **options):
    # split_special_tokens: a "</s>" inside a data field stays text, and ends or starts nothing
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False,
                     verbose=False, **options)


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
