"""What every stand-in row is made with: the fictional medicine's words, drawn by one seed."""

from __future__ import annotations

import random

from sm70lib.tiny.world import TUNING, Options, World, ask, declare

ROWS = 24
Files = dict[str, list[dict]]  # rows by path in the repository


class Writer:
    """Wordings about one world, drawn by one seed."""

    def __init__(self, world: World, name: str):
        self.world, self.rng = world, random.Random(f"{name} {world.seed}")
        self.options = Options(world.values, self.rng)
        self.facts = [self.rng.choice(world.facts) for _ in range(ROWS)]

    def card(self, fact) -> dict:
        """A question and its answer."""
        return {
            "instruction": "Answer this question truthfully",
            "input": ask(fact, TUNING, self.rng),
            "output": declare(fact, self.rng),
        }

    def text(self, sentences: int = 12) -> str:
        """Running text."""
        return " ".join(
            declare(self.rng.choice(self.world.facts), self.rng) for _ in range(sentences)
        )
