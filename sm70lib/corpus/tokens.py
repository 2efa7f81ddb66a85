"""Tokens and labels: the one place where text becomes what a model reads and trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sm70lib.study.params import StudyError

IGNORED = -100  # the label that the loss skips
EMPTY = "response without a token"


@dataclass(frozen=True)
class Encoded:
    """One training row.

    Attributes:
        input_ids: token ids, with BOS and EOS.
        labels: the same ids where the loss counts, IGNORED elsewhere.
        cut: number of tokens that the row lost because it was too long.
        note: what else has to be known of it; "" for nothing.
    """

    input_ids: list[int]
    labels: list[int]
    cut: int = 0
    note: str = ""

    @property
    def targets(self) -> int:
        """Number of tokens that the loss counts."""
        return len(self.labels) - self.labels.count(IGNORED)


def documents(texts: list[str], tokenizer) -> list[list[int] | str]:
    """The token ids of running text, with BOS (if the tokenizer has one) and EOS.

    Returns:
        For each text its ids, or why it is unusable.

    Raises:
        StudyError: the tokenizer lacks EOS.
    """
    bos, eos = _bos(tokenizer), _eos(tokenizer)
    found = response_ids(texts, tokenizer)
    assert not bos or not any(bos[0] in ids for ids in found), "one BOS, at the start"
    return [[*bos, *ids, eos] if ids else EMPTY for ids in found]


def pieces(ids: list[int], length: int) -> list[Encoded]:
    """Cuts a document into pieces of at most `length` tokens, whose labels are their ids.

    The first piece has the BOS, the last one the EOS.
    """
    parts = [ids[n : n + length] for n in range(0, len(ids), length)]
    return [Encoded(part, part) for part in parts]


def _bos(tokenizer) -> list[int]:
    """The id of BOS; [] for a tokenizer without one, such as Qwen's."""
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _eos(tokenizer) -> int:
    if tokenizer.eos_token_id is None:
        raise StudyError(
            f"base_model: the tokenizer {tokenizer.name_or_path!r} lacks an EOS token; "
            "choose a base that has one"
        )
    return tokenizer.eos_token_id


def prompt_ids(texts: list[str], tokenizer) -> list[list[int]]:
    """The token ids of prompts, each after a BOS if the tokenizer has one.

    Training rows begin with them, and a model that was trained on these rows is asked with them.
    White space at the end of a prompt stays. A special token that the text spells out is text.
    """
    bos = _bos(tokenizer)
    return [[*bos, *ids] for ids in response_ids(texts, tokenizer)]


def response_ids(texts: list[str], tokenizer) -> list[list[int]]:
    """The token ids of responses, as training puts them after a prompt, without EOS."""
    if not tokenizer.is_fast:
        return _tokens(tokenizer, texts)["input_ids"]
    # The same ids as `_tokens` gives, for a quarter fewer instructions: no places are noted.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def chat_ids(text: str, tokenizer) -> list[int]:
    """The token ids of a prompt that a chat template has written, after a BOS if there is one.

    The template has written its own special tokens, often including the BOS, which is not doubled.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is None or ids[:1] == [bos]:
        return ids
    return [bos, *ids]


def unknown(ids: Sequence[int], rows: int | None, tokenizer) -> str | None:
    """A token that a model cannot read, such as <image_soft_token>; None if it can read all.

    Args:
        ids: token ids of a text.
        rows: rows of the model's input embeddings; None if they are not known here.
        tokenizer: the tokenizer of the ids.
    """
    if rows is None or max(ids, default=0) < rows:
        return None
    return tokenizer.convert_ids_to_tokens(next(token for token in ids if token >= rows))


def encode_batch(
    texts: list[tuple[str, str, tuple[int, int]]],
    tokenizer,
    max_length: int,
    overlong: str,
    loss: str,
) -> list[Encoded | str]:
    """Encodes rows as BOS (if the tokenizer has one), prompt, response and EOS, with their labels.

    Prompt and response are tokenised separately and then joined, so the mask needs no search.

    Args:
        texts: for each row its prompt, its response, and where the input is in the prompt (first
            character, and the one after the last). An empty prompt means running text.
        tokenizer: must have an EOS, without which a model would not learn where to end.
        max_length: tokens of a row, with BOS and EOS.
        overlong: what happens to a longer row. With "drop" it is unusable; with "cut" it loses the
            end of its input, and headers and response stay whole.
        loss: "response" or "all". Running text is trained on all its tokens.

    Returns:
        For each row its tokens and labels, or why it is unusable.

    Raises:
        StudyError: the tokenizer lacks EOS.
    """
    bos, eos = _bos(tokenizer), _eos(tokenizer)
    prompts = prompt_ids([text[0] for text in texts], tokenizer)
    responses = response_ids([text[1] for text in texts], tokenizer)
    encoded: list[Encoded | str] = []
    for (text, _, (start, end)), prompt, response in zip(texts, prompts, responses):
        kept = prompt
        room = max_length - len(response) - 1  # tokens for BOS and prompt, as EOS needs one
        if overlong == "cut" and 1 <= room < len(prompt):
            kept = [*bos, *_cut(tokenizer, text, start, end, room - len(bos))]
        reason = _unusable(kept, response, room)
        if reason is None:
            inside = (*kept[len(bos) :], *response)
            assert not bos or bos[0] not in inside, "a row has at most one BOS, at its start"
            encoded.append(_join(kept, [*response, eos], loss, len(prompt) - len(kept)))
        else:
            encoded.append(reason)
    return encoded


def _unusable(prompt: list[int], response: list[int], room: int) -> str | None:
    """Why a row cannot be used; None if it can."""
    if not response:
        return EMPTY
    if room < 1:  # BOS alone needs one
        return "response longer than data_max_length"
    if len(prompt) > room:
        return "prompt too long for data_max_length"
    return None


def _join(prompt: list[int], response: list[int], loss: str, cut: int) -> Encoded:
    ids = [*prompt, *response]
    masked = 1  # nothing comes before the first token that could predict it
    if loss == "response":
        masked = max(masked, len(prompt))
    return Encoded(ids, [IGNORED] * masked + ids[masked:], cut)


def _tokens(tokenizer, texts: list[str], **options):
    # split_special_tokens: a "</s>" inside a data field stays text, and does not end a row
    return tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
        **options,
    )


def _cut(tokenizer, prompt: str, start: int, end: int, room: int) -> list[int]:
    """Cuts the end of a prompt's input until at most `room` tokens are left.

    The input is between the characters `start` and `end`. More tokens are left if the rest of the
    prompt alone is longer.
    """
    while True:  # once is not always enough, because tokens may merge differently at the seam
        encoding = _tokens(tokenizer, [prompt], return_offsets_mapping=True)
        ids, offsets = encoding["input_ids"][0], encoding["offset_mapping"][0]
        over = len(ids) - room
        if over <= 0 or start == end:
            return ids
        inside = [first for first, _ in offsets if start <= first < end]
        seam = inside[-over] if over <= len(inside) else start
        prompt, end = prompt[:seam] + prompt[end:], seam


def show(input_ids: list[int], labels: list[int], tokenizer) -> pd.DataFrame:
    """One line per token: its id, its text, and the text of its label.

    The label is empty where the loss skips it.
    """
    text = [tokenizer.decode([token]) for token in input_ids]
    label = ["" if label == IGNORED else tokenizer.decode([label]) for label in labels]
    return pd.DataFrame({"token": input_ids, "text": text, "label": label})
