"""What every writer of stand-in rows works with: the fictional medicine and a generator."""

from __future__ import annotations

import random

from sm70lib.tiny.layouts import LETTERS, flashcard
from sm70lib.tiny.world import Fact, Options, World, ask, declare

ROWS = 24  # of a source
ITEMS = 12  # of a benchmark
TWICE = 2  # questions that each benchmark asks twice
Content = list[dict] | dict | str  # what one file holds: rows, a JSON object, or its text
Files = dict[str, Content]  # by path in the repository


def path_for(pattern: str) -> str:
    """A path that a glob matches, e.g. data/standin.json for data/**/*.json."""
    return pattern.replace("**/", "").replace("*", "standin")


class Writer:
    """Words facts of one world as questions, answers and running text.

    Args:
        world: the fictional medicine.
        name: the source or benchmark that is written; it seeds the generator, with the world.

    Attributes:
        rng: the generator of every choice, so that the order of calls decides what is written.
        options: draws the options of questions.
        facts: the ROWS facts that the rows speak of, one a row.
    """

    def __init__(self, world: World, name: str):
        self.world = world
        self.rng = random.Random(f"{name} {world.seed}")
        self.options = Options(world.values, self.rng)
        self.facts = [self.rng.choice(world.facts) for _ in range(ROWS)]

    def card(self, fact: Fact) -> dict:
        """A training row that asks for a fact and answers."""
        return flashcard(fact, self.rng)

    def questions(self, options: int, use: str, count: int = ITEMS) -> list[dict]:
        """Questions in MedQA's layout; the first TWICE of them appear twice.

        Args:
            options: how many options each has.
            use: how it is worded (tiny/world.py): TUNING, MEDQA or USMLE.
            count: how many questions.
        """
        letters = LETTERS[:options]
        rows = []
        for fact in self.facts[: count - TWICE]:
            choices, answer = self.options.draw(fact, options)
            rows.append(
                {
                    "question": ask(fact, use, self.rng),
                    "options": dict(zip(letters, choices)),
                    "answer": fact.value,
                    "answer_idx": letters[answer],
                }
            )
        return [*rows[:TWICE], *rows]

    def text(self, sentences: int = 12) -> str:
        """Running text of so many sentences, each about a random fact."""
        return self.sentences(self.world.facts, sentences)

    def sentences(self, facts: tuple[Fact, ...], count: int) -> str:
        """`count` sentences, each about a random one of these facts."""
        return " ".join(declare(self.rng.choice(facts), self.rng) for _ in range(count))
