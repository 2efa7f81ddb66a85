"""What a protocol is: which items, which prompt, how its tokens begin, what is read, and which shots.

A benchmark's name alone means nothing: the same 1,273 MedQA questions are asked with the options
as text or as letters, with shots or without. `catalogue.py` lists all protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sm70lib.benchmarks import Item
from sm70lib.corpus import templates

Parts = tuple[list[Item], list[Item]]  # the items that are scored, and those that shots come from


@dataclass(frozen=True)
class Protocol:
    """How the items of some benchmarks are asked and read, as published.

    `version` grows with every change of prompts, tokens or reading, since it tells old predictions
    from new ones where the text of a prompt, and so its digest, is the same.

    What is asked: `layouts` maps a benchmark to its question as text, ending where the answer
    starts; `intro` stands once in front of shots and question; `ends` closes a prompt without
    shots. `answers` gives the continuations of an item (each starts with what separates it),
    `right` those that are true where it is not the one answer. `view` is the item as it is asked,
    `keep` says which items count. `chat` puts the model's own chat template around the prompt;
    with `turns` that template gets the introduction as its system message and every shot as a
    turn, and the answer follows without a blank, as in lm-evaluation-harness.

    How the tokens begin (`bos`): "never" with a BOS; as the "tokenizer" does by itself, unless the
    text has already written one; or "always" with one, where the tokenizer has any, as training
    rows do.

    Shots: `draw` picks them (None: there are none). They come from the benchmark's pool, or from
    that of the benchmark that `pools` names ("": from the scored items themselves), or `parts`
    gives scored items and pool in one (None: it cannot tell). `most_shots` limits their number by
    benchmark. `seeds` are those that the authors used, each a run over all items.

    With `in_template` the question stands in the template that the study trains in, and layouts
    give its instruction and input. With `reads` the model writes `max_new_tokens` at most,
    greedily or `samples` times at temperature 0.8, and the option is read out of its text.
    """

    name: str
    version: int
    layouts: dict[str, Callable[[Item], str | tuple[str, str]]]
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
    # the harness gives TruthfulQA none, as it has no other questions
    most_shots: dict[str, int] = field(default_factory=lambda: {"truthfulqa": 0})
    seeds: tuple[int, ...] = (42,)
    max_context: int = 4096
    shots_from_test: bool = False
    chat: bool = False
    turns: bool = False
    in_template: bool = False
    reads: Callable[[str, tuple[str, ...]], int | None] | None = None
    max_new_tokens: int = 0
    samples: int = 1

    def covers(self, benchmark: str, shots: int) -> bool:
        """Whether this protocol asks that benchmark with so many shots."""
        if benchmark not in self.layouts:
            return False
        return shots == 0 or bool(self.draw) and shots <= self.most_shots.get(benchmark, shots)

    def parted(self, benchmark: str, items: list[Item]) -> Parts:
        """The items that count, and those that shots come from ([]: the benchmark's pool)."""
        part = self.parts.get(benchmark, lambda items: None)
        return part(items) or ([item for item in items if self.keep(item)], [])

    def drawn(self, items: list[Item], shots: int, pool: list[Item], seed: int) -> dict:
        """`shots` items for every item, by its id."""
        if not shots or not self.draw:
            return {item.id: [] for item in items}
        return self.draw(items, shots, pool, seed)

    def head(self, item: Item, shots: list[Item] = ()) -> str:
        """What stands in front of the question: the introduction, and the shots, solved."""
        layout = self.layouts[item.benchmark]
        solved = (f"{layout(shot)}{self.answers(shot)[shot.answer]}\n\n" for shot in shots)
        return self.intro(item) + "".join(solved)

    def prompt(self, item: Item, shots: list[Item] = (), template: str | None = None) -> str:
        """The text a model reads before it answers.

        With `in_template` instruction and input stand in the study's `template`; without one they
        follow one another, as the words of a chat's user.
        """
        if not self.in_template:
            ends = "" if shots else self.ends
            return self.head(item, shots) + self.layouts[item.benchmark](item) + ends
        instruction, input = self.layouts[item.benchmark](item)
        if template is None:
            return f"{instruction}\n\n{input}"
        return templates.render(template, instruction, input)

    def said(self, item: Item, shots: list[Item] = ()) -> list[dict[str, str]]:
        """The same as the messages (role, content) that a chat template is given."""
        if not self.turns:
            return [_message("user", self.prompt(item, shots))]
        layout, intro = self.layouts[item.benchmark], self.intro(item)
        messages = [_message("system", intro)] if intro else []
        for shot in shots:
            answer = self.answers(shot)[shot.answer].removeprefix(" ")
            messages += [_message("user", layout(shot)), _message("assistant", answer)]
        return [*messages, _message("user", layout(item))]

    def continuations(
        self,
        item: Item,
        shots: list[Item] = (),
        chat: bool = False,
        template: str | None = None,
    ) -> list[str]:
        """The answers as they follow the prompt.

        Without a blank where that ends in a newline; with `in_template` as `template` has them.
        """
        if self.in_template and not self.reads and template is not None:
            return [templates.response(template, answer) for answer in self.answers(item)]
        bare = self.turns if chat else self.ends and not shots
        return [answer.removeprefix(" ") if bare else answer for answer in self.answers(item)]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
