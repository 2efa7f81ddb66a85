"""What a protocol is: its items, its prompt, how its tokens begin, what is read, and its shots.

The name of a benchmark says little: the same 1,273 MedQA questions are asked with the options as
text or as letters, with shots or without. `protocols.csv` lists all protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from sm70lib.benchmarks import Item
from sm70lib.corpus import templates

Message = dict[str, str]  # role and content
Parts = tuple[list[Item], list[Item]]  # the items that are scored, and the pool of shots


@dataclass(frozen=True)
class Protocol:
    """How the items of some benchmarks are asked and read, as published.

    `version` grows with every change of prompts, tokens or reading. Such a change may leave the
    text of a prompt, and so its digest, as it was; the version then tells old predictions from
    new ones.

    What is asked: `layouts` maps a benchmark to the function that writes its question as text, up
    to where the answer starts. `intro` stands once in front of shots and question, and `ends`
    closes a prompt without shots. `answers` gives the continuations of an item (each starts with
    what separates it from the prompt), and `right` the positions of all true ones, where more than
    one may be true. `view` gives the item as it is asked, and `keep` says which items count. `chat`
    puts the model's own chat template around the prompt. With `turns` that template gets the
    introduction as its system message and every shot as a turn, and the answer follows without a
    blank, as in lm-evaluation-harness.

    How the tokens begin (`bos`): "never" means without a BOS. "tokenizer" leaves it to the
    tokenizer, unless the text already begins with a BOS. "always" puts one in front, as in
    training rows, if the tokenizer has one.

    Shots: `draw` picks them (None: there are none). By default they come from the benchmark's own
    pool. `pools` may name another benchmark, whose pool is used ("": the scored items themselves).
    `parts` may split the items into scored items and pool (None: it cannot tell). `most_shots`
    limits the number of shots by benchmark. `seeds` are the ones that the authors used; each is a
    run over all items. With `varies` they change what is asked, not only the shots.

    With `in_template` the question stands in the template that the study trains in, and layouts
    give its instruction and input. With `reads` the model writes at most `max_new_tokens` tokens,
    greedily or `samples` times at temperature 0.8, and `reads` finds the option in that text. With
    `dialogue` an item is a conversation, whose messages stand in a chat template as they are.

    With `counts_tokens` every line of predictions says how many tokens each option has, for a
    log-likelihood per token. With `per_token` options are scored by that mean, not by the sum.
    """

    name: str
    version: int
    layouts: Mapping[str, Callable[[Item], str | tuple[str, str]]]
    answers: Callable[[Item], list[str]]
    bos: str = "never"
    intro: Callable[[Item], str] = lambda item: ""
    ends: str = ""
    right: Callable[[Item], list[int]] | None = None
    view: Callable[[Item, int], Item] = lambda item, seed: item
    keep: Callable[[Item], bool] = lambda item: True
    draw: Callable[..., dict[str, list[Item]]] | None = None
    pools: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Callable[[list[Item]], Parts | None]] = field(default_factory=dict)
    # The harness gives TruthfulQA no shots, since that benchmark has no other questions.
    most_shots: dict[str, int] = field(default_factory=lambda: {"truthfulqa": 0})
    seeds: tuple[int, ...] = (42,)
    varies: bool = False
    max_context: int = 4096
    shots_from_test: bool = False
    chat: bool = False
    turns: bool = False
    in_template: bool = False
    reads: Callable[[str, tuple[str, ...]], int | None] | None = None
    dialogue: Callable[[Item], list[Message]] | None = None
    max_new_tokens: int = 0
    samples: int = 1
    per_token: bool = False
    counts_tokens: bool = False

    def covers(self, benchmark: str, shots: int) -> bool:
        """Whether this protocol asks that benchmark with that many shots."""
        if benchmark not in self.layouts:
            return False
        if shots == 0:
            return True
        if not self.draw:
            return False
        return shots <= self.most_shots.get(benchmark, shots)

    def parted(self, benchmark: str, items: list[Item]) -> Parts:
        """Splits a benchmark's items into those that count and the pool of shots.

        Args:
            benchmark: the name under which `parts` may have a rule of its own.
            items: all items of the benchmark.

        Returns:
            The items that are scored, and the items that shots come from; the second list is empty
            where shots come from the benchmark's own pool.
        """
        split = self.parts.get(benchmark)
        parts = split(items) if split else None
        if parts:
            return parts
        return [item for item in items if self.keep(item)], []

    def drawn(
        self, items: list[Item], shots: int, pool: list[Item], seed: int
    ) -> dict[str, list[Item]]:
        """Draws `shots` items for every item, and returns them by the item's id."""
        if not shots or not self.draw:
            return {item.id: [] for item in items}
        return self.draw(items, shots, pool, seed)

    def head(self, item: Item, shots: Sequence[Item] = ()) -> str:
        """What stands in front of the question: the introduction, then the shots with answers."""
        layout = self._layout(item)
        solved = [f"{layout(shot)}{self.answers(shot)[shot.answer]}\n\n" for shot in shots]
        return self.intro(item) + "".join(solved)

    def prompt(self, item: Item, shots: Sequence[Item] = (), template: str | None = None) -> str:
        """The text that a model reads before it answers.

        Args:
            item: the item as it is asked (see `view`).
            shots: the solved examples that stand in front of it.
            template: the study's template, which holds instruction and input of a protocol with
                `in_template`. Without it one follows the other, as the words of a chat's user.
        """
        if not self.in_template:
            ends = "" if shots else self.ends
            return self.head(item, shots) + self._layout(item)(item) + ends
        instruction, question = self._instruction_and_input(item)
        if template is None:
            return "\n\n".join(filter(None, (instruction, question)))
        return templates.render(template, instruction, question)

    def said(self, item: Item, shots: Sequence[Item] = ()) -> list[Message]:
        """The prompt as the messages (role, content) that a chat template takes."""
        if self.dialogue:
            return self.dialogue(item)
        if not self.turns:
            return [_message("user", self.prompt(item, shots))]
        messages = []
        layout = self._layout(item)
        intro = self.intro(item)
        if intro:
            messages.append(_message("system", intro))
        for shot in shots:
            answer = self.answers(shot)[shot.answer].removeprefix(" ")
            messages.append(_message("user", layout(shot)))
            messages.append(_message("assistant", answer))
        messages.append(_message("user", layout(item)))
        return messages

    def continuations(
        self,
        item: Item,
        shots: Sequence[Item] = (),
        chat: bool = False,
        template: str | None = None,
    ) -> list[str]:
        """The answers, as they follow the prompt.

        Args:
            item: the item as it is asked.
            shots: its solved examples.
            chat: whether the prompt stands in a chat template.
            template: the study's template; with `in_template`, answers are written as it has them.

        Returns:
            One text per option, without its leading blank where the prompt ends in a newline.
        """
        answers = self.answers(item)
        if self.in_template and not self.reads and template is not None:
            return [templates.response(template, answer) for answer in answers]
        if self._ends_in_newline(shots, chat):
            return [answer.removeprefix(" ") for answer in answers]
        return answers

    def _ends_in_newline(self, shots: Sequence[Item], chat: bool) -> bool:
        """Whether the prompt ends in a newline: in a chat template its turn does."""
        if chat:
            return self.turns
        return self.ends != "" and not shots

    def _layout(self, item: Item) -> Callable[[Item], str]:
        """The layout of the item's benchmark, without `in_template`: it gives one text.

        An item's shots are laid out by it too, even if they come from another benchmark.
        """
        return cast(Callable[[Item], str], self.layouts[item.benchmark])

    def _instruction_and_input(self, item: Item) -> tuple[str, str]:
        """The item's question with `in_template`: its layout gives two texts."""
        return cast(tuple[str, str], self.layouts[item.benchmark](item))


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
