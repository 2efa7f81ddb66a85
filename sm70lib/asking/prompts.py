"""The prompts of a run. Each is rendered once, and waits in a temporary file until it is asked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from jinja2.exceptions import TemplateError

from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item
from sm70lib.corpus.chat import Chat
from sm70lib.corpus.templates import CHAT, asked_in_chat, chat_template_of
from sm70lib.sources.layouts import Turns

CHUNK = 256  # prompts that are held as tokens at one time


@dataclass(frozen=True)
class Prompt:
    """What one line of a prediction file answers.

    `item` is the item as it is asked, and `seed` the seed of its shots. `text` is the whole prompt,
    and `answers` are what may follow it. `chat` says whether the text stands in a chat template;
    `trained` says that it does so as training rows do, whose template is `chat`.
    """

    item: Item
    seed: int
    text: str
    answers: list[str]
    chat: bool = False
    trained: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Item id and seed, which identify a line within its file."""
        return self.item.id, self.seed

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the text's sha256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Rendered:
    """All prompts of a run in a temporary file; memory holds a few numbers of each.

    Attributes:
        digest: the sha256 (hex) of all texts.
        heads: the number of each prompt's head, by order of appearance.
        lengths: characters of each text.
    """

    def __init__(self, prompts: Prompts):
        whole = hashlib.sha256()
        seen: dict[bytes, int] = {}
        self._file = tempfile.TemporaryFile()
        self._starts, self.heads, self.lengths = array("Q"), array("Q"), array("Q")
        for number in range(len(prompts)):
            prompt = prompts.render(number)
            whole.update(prompt.digest.encode())
            head = hashlib.sha256(prompts.head(number).encode()).digest()
            self.heads.append(seen.setdefault(head, len(seen)))
            self.lengths.append(len(prompt.text))
            self._starts.append(self._file.tell())
            line = json.dumps([prompt.text, prompt.answers])
            self._file.write(f"{line}\n".encode())
        self.digest = whole.hexdigest()

    def read(self, number: int) -> tuple[str, list[str]]:
        """Text and answers of a prompt."""
        self._file.seek(self._starts[number])
        text, answers = json.loads(self._file.readline())
        return text, answers


class Prompts:
    """The prompts of a run: every item once per seed.

    A few of them can be rendered one by one; `digest` and `chunks` render all, once for all models
    that are asked in the same words.

    With `chat`, or if the protocol says so, they stand in the tokenizer's chat template instead of
    the study's template, up to an answer without reasoning. A tokenizer without a chat template
    gets Med42's own words. Without a tokenizer, a chat's prompt is the JSON text of its messages,
    which a server puts into words. If the study's template is itself `chat`, what is asked as
    trained stands in it exactly as a training row does.
    """

    def __init__(self, run: Run, tokenizer, chat: bool = False):
        self.run = run
        self.tokenizer = tokenizer
        self.chat = chat or run.protocol.chat
        trained = run.protocol.in_template and run.template == CHAT and not self.chat
        self.trained = Chat(tokenizer) if trained else None
        self.keys = [(place, seed) for seed in run.seeds for place in range(len(run.items))]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Prompt:
        if "rendered" not in vars(self):
            return self.render(number)
        asked, _, seed = self._asked(number)
        text, answers = self.rendered.read(number)
        return Prompt(asked, seed, text, answers, self.chat, self.trained is not None)

    def __iter__(self) -> Iterator[Prompt]:
        for number in range(len(self)):
            yield self[number]

    def render(self, number: int) -> Prompt:
        """Renders a prompt, whether it has been rendered before or not."""
        protocol = self.run.protocol
        asked, shots, seed = self._asked(number)
        template = None if self.chat or self.trained else self.run.template
        text = protocol.prompt(asked, shots, template)
        if self.chat:
            text = _as_chat(self.tokenizer, protocol.said(asked, shots), text)
        answers = protocol.continuations(asked, shots, self.chat, template)
        if self.trained:
            turns: Turns = (("user", text),)
            if protocol.dialogue:
                turns = tuple((turn["role"], turn["content"]) for turn in protocol.said(asked))
            if not protocol.reads:
                answers = [self.trained.answer(turns, answer) for answer in answers]
            return Prompt(asked, seed, self.trained.prompt(turns), answers, trained=True)
        return Prompt(asked, seed, text, answers, self.chat)

    def head(self, number: int) -> str:
        """What stands before the question of a prompt: introduction and shots."""
        asked, shots, _ = self._asked(number)
        return self.run.protocol.head(asked, shots)

    def _asked(self, number: int) -> tuple[Item, list[Item], int]:
        """The item as it is asked, its shots, and their seed."""
        place, seed = self.keys[number]
        item, view = self.run.items[place], self.run.protocol.view
        shots = [view(shot, seed) for shot in self.shots[seed][item.id]]
        return view(item, seed), shots, seed

    @cached_property
    def shots(self) -> dict[int, dict[str, list[Item]]]:
        """The shots of every item, by seed and the item's id."""
        run = self.run
        drawn = run.protocol.drawn
        return {seed: drawn(run.items, run.shots, run.pool, seed) for seed in run.seeds}

    @cached_property
    def rendered(self) -> Rendered:
        """All prompts, rendered when the first model that is asked in these words needs them."""
        if self._words not in self.run.rendered:
            self.run.rendered[self._words] = Rendered(self)
        return self.run.rendered[self._words]

    @property
    def _words(self) -> tuple:
        """What decides the text of prompts besides the run: of a model in a chat, its template."""
        if self.tokenizer is None or not (self.chat or self.trained):
            return (self.chat,)
        template = chat_template_of(self.tokenizer)
        return self.chat, template, str(self.tokenizer.special_tokens_map)

    @property
    def digest(self) -> str:
        """The sha256 (hex) of all texts."""
        return self.rendered.digest

    def chunks(self) -> Iterator[tuple[bool, list[Prompt]]]:
        """Groups prompts of about equal length, the longest first.

        Yields:
            Whether all prompts of the group begin with the same head, and at most CHUNK prompts.
        """
        heads, lengths = self.rendered.heads, self.rendered.lengths
        often = Counter(heads)
        groups: dict[int | None, list[int]] = {}
        for number in sorted(range(len(self)), key=lambda number: (-lengths[number], number)):
            shared = often[heads[number]] > 1
            head = heads[number] if shared else None
            groups.setdefault(head, []).append(number)
        for head, numbers in groups.items():
            for start in range(0, len(numbers), CHUNK):
                chunk = [self[number] for number in numbers[start : start + CHUNK]]
                yield head is not None, chunk


def _as_chat(tokenizer, messages: list[dict[str, str]], text: str) -> str:
    """The messages in the tokenizer's chat template.

    `text` says the same in plain words; it is used if the tokenizer has no template. Without a
    tokenizer the messages stay as they are.
    """
    if tokenizer is None:
        return json.dumps(messages)
    if chat_template_of(tokenizer):
        try:
            return asked_in_chat(tokenizer, messages)
        except TemplateError:
            # Some templates refuse a system message. The harness then leaves it out.
            return asked_in_chat(
                tokenizer, [message for message in messages if message["role"] != "system"]
            )
    # github:m42-health/med42, model card of Med42-v1 (arXiv 2404.14779)
    return (
        "<|system|>: You are a helpful medical assistant created by M42 Health in the UAE.\n"
        f"<|prompter|>:{text}\n<|assistant|>:"
    )
