"""The prompts of a run. Each one is built anew when it is needed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from jinja2.exceptions import TemplateError

from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item

CHUNK = 256  # prompts that are held as tokens at one time


@dataclass(frozen=True)
class Prompt:
    """What one line of a prediction file answers.

    `item` is the item as it is asked, and `seed` the seed of its shots. `text` is the whole prompt,
    `head` its part before the question, and `answers` are what may follow it. `chat` says whether
    the text stands in a chat template.
    """

    item: Item
    seed: int
    head: str
    text: str
    answers: list[str]
    chat: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Item id and seed, which identify a line within its file."""
        return self.item.id, self.seed

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the text's sha256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Prompts:
    """The prompts of a run: every item once per seed, built anew when it is asked for.

    With `chat`, or if the protocol says so, they stand in the tokenizer's chat template instead of
    the study's template. A tokenizer without a chat template gets Med42's own words.
    """

    def __init__(self, run: Run, tokenizer, chat: bool = False):
        self.run = run
        self.tokenizer = tokenizer if chat or run.protocol.chat else None
        self.keys = [(place, seed) for seed in run.seeds for place in range(len(run.items))]
        self.shots = {
            seed: run.protocol.drawn(run.items, run.shots, run.pool, seed) for seed in run.seeds
        }

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Prompt:
        place, seed = self.keys[number]
        protocol = self.run.protocol
        item = self.run.items[place]
        shots = [protocol.view(shot, seed) for shot in self.shots[seed][item.id]]
        asked = protocol.view(item, seed)
        chat = self.tokenizer is not None
        template = None if chat else self.run.template
        text = protocol.prompt(asked, shots, template)
        if chat:
            text = _as_chat(self.tokenizer, protocol.said(asked, shots), text)
        answers = protocol.continuations(asked, shots, chat, template)
        return Prompt(asked, seed, protocol.head(asked, shots), text, answers, chat)

    def __iter__(self) -> Iterator[Prompt]:
        for number in range(len(self)):
            yield self[number]

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of all texts."""
        return hashlib.sha256("".join(prompt.digest for prompt in self).encode()).hexdigest()

    def chunks(self) -> Iterator[tuple[bool, list[Prompt]]]:
        """Groups prompts of about equal length, the longest first.

        Yields:
            Whether all prompts of the group begin with the same head, and at most CHUNK prompts.
        """
        heads, lengths = [], []
        for prompt in self:
            heads.append(hashlib.sha256(prompt.head.encode()).digest())
            lengths.append(len(prompt.text))
        often = Counter(heads)
        groups: dict[bytes, list[int]] = {}
        for number in sorted(range(len(self)), key=lambda number: (-lengths[number], number)):
            shared = often[heads[number]] > 1
            head = heads[number] if shared else b""
            groups.setdefault(head, []).append(number)
        for head, numbers in groups.items():
            for start in range(0, len(numbers), CHUNK):
                yield head != b"", [self[number] for number in numbers[start : start + CHUNK]]


def _as_chat(tokenizer, messages: list[dict[str, str]], text: str) -> str:
    """The messages in the tokenizer's chat template.

    `text` says the same in plain words; it is used if the tokenizer has no template.
    """
    if tokenizer.chat_template:
        try:
            return _templated(tokenizer, messages)
        except TemplateError:
            # Some templates refuse a system message. The harness then leaves it out.
            return _templated(
                tokenizer, [message for message in messages if message["role"] != "system"]
            )
    # github:m42-health/med42, model card of Med42-v1 (arXiv 2404.14779)
    return (
        "<|system|>: You are a helpful medical assistant created by M42 Health in the UAE.\n"
        f"<|prompter|>:{text}\n<|assistant|>:"
    )


def _templated(tokenizer, messages: list[dict[str, str]]) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
