"""Prompts of a run, each made anew when it is asked for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from jinja2.exceptions import TemplateError

from sm70lib.benchmarks import Item
from sm70lib.evaluation.runs import Run

CHUNK = 256  # prompts that are tokens at one time


@dataclass(frozen=True)
class Prompt:
    """What one line answers: the item as it is asked, seed of its shots, its text and its head.

    `head` is the part before the question, `answers` are what may follow the text, and `chat` says
    that the text stands in a chat template.
    """

    item: Item
    seed: int
    head: str
    text: str
    answers: list[str]
    chat: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """What tells a line from all others of its file."""
        return self.item.id, self.seed

    @property
    def digest(self) -> str:
        """First 16 hex digits of the sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Prompts:
    """The prompts of a run, every item once per seed, each made anew when it is asked for.

    With `chat`, or where the protocol says so, they stand in the tokenizer's chat template, or in Med42's own
    words where it has none, and not in the study's template.
    """

    def __init__(self, run: Run, tokenizer, chat: bool = False):
        self.run, self.tokenizer = run, tokenizer if chat or run.protocol.chat else None
        self.keys = [(place, seed) for seed in run.seeds for place in range(len(run.items))]
        self.shots = {
            seed: run.protocol.drawn(run.items, run.shots, run.pool, seed) for seed in run.seeds
        }

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Prompt:
        place, seed = self.keys[number]
        item, protocol = self.run.items[place], self.run.protocol
        shots = [protocol.view(shot, seed) for shot in self.shots[seed][item.id]]
        asked, chat = protocol.view(item, seed), self.tokenizer is not None
        if chat:
            text = _as_chat(
                self.tokenizer, protocol.said(asked, shots), protocol.prompt(asked, shots)
            )
        else:
            text = protocol.prompt(asked, shots, self.run.template)
        answers = protocol.continuations(asked, shots, chat, None if chat else self.run.template)
        return Prompt(asked, seed, protocol.head(asked, shots), text, answers, chat)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all texts."""
        return hashlib.sha256("".join(prompt.digest for prompt in self).encode()).hexdigest()

    def chunks(self) -> Iterator[tuple[bool, list[Prompt]]]:
        """At most CHUNK prompts of about equal length, and whether they all begin with the same head."""
        sizes = [
            (hashlib.sha256(prompt.head.encode()).digest(), len(prompt.text)) for prompt in self
        ]
        often = Counter(head for head, _ in sizes)
        groups: dict[bytes, list[int]] = {}
        for number in sorted(range(len(self)), key=lambda number: (-sizes[number][1], number)):
            head = sizes[number][0]
            groups.setdefault(head if often[head] > 1 else b"", []).append(number)
        for head, numbers in groups.items():
            for start in range(0, len(numbers), CHUNK):
                yield head != b"", [self[number] for number in numbers[start : start + CHUNK]]


def _as_chat(tokenizer, said: list[dict[str, str]], text: str) -> str:
    """The messages in the tokenizer's template; `text`, which says the same, where it has none."""
    if tokenizer.chat_template:
        try:
            return _templated(tokenizer, said)
        except TemplateError:  # some refuse a system message, and the harness then leaves it out
            return _templated(tokenizer, [one for one in said if one["role"] != "system"])
    # github:m42-health/med42, model card of Med42-v1 (arXiv 2404.14779)
    return (
        "<|system|>: You are a helpful medical assistant created by M42 Health in the UAE.\n"
        f"<|prompter|>:{text}\n<|assistant|>:"
    )


def _templated(tokenizer, said: list[dict[str, str]]) -> str:
    return tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
