"""Layouts in which tuning and the gazetteer ask for a fact: rows in Medical Meadow's schema.

Tuning shows several layouts, so that it teaches the model to answer, not to follow one layout. The
exam's own layout is not among them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from sm70lib.sources import wordings
from sm70lib.tiny.world import TUNING, Fact, Options, ask, declare

LETTERS = "ABCDEFGHI"


def flashcard(fact: Fact, rng: random.Random) -> dict[str, str]:
    """A question without options, answered by a statement."""
    return {
        "instruction": wordings.TRUTHFULLY,
        "input": ask(fact, TUNING, rng),
        "output": declare(fact, rng),
    }


def meadow(fact: Fact, options: Options, rng: random.Random) -> dict[str, str]:
    """The layout of Meadow's MedQA rows: five options in brackets, answered by letter and text."""
    choices, answer = options.draw(fact, 5)
    return {
        "instruction": wordings.IN_BRACKETS,
        "input": wordings.bracketed(ask(fact, TUNING, rng), dict(zip(LETTERS, choices))),
        "output": f"{LETTERS[answer]}: {fact.value}",
    }


def listed(fact: Fact, options: Options, rng: random.Random) -> dict[str, str]:
    """Options as a list, answered after a heading."""
    choices, _ = options.draw(fact, 4)
    lines = "\n".join(f"- {choice}" for choice in choices)
    return {
        "instruction": "Choose from the list and fill in the answer",
        "input": f"{ask(fact, TUNING, rng)}\n{lines}",
        "output": f"Answer: {fact.value}",
    }


def in_a_sentence(fact: Fact, options: Options, rng: random.Random) -> dict[str, str]:
    """Options in a sentence before the question, answered by a sentence."""
    choices, _ = options.draw(fact, 4)
    alternatives = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return {
        "instruction": "Decide between these",
        "input": f"It is {alternatives}. {ask(fact, TUNING, rng)}",
        "output": f"It is {fact.value}.",
    }


def numbered(fact: Fact, options: Options, rng: random.Random) -> dict[str, str]:
    """Numbered options, answered by number and text."""
    choices, answer = options.draw(fact, 5)
    numbers = " ".join(f"({number}) {choice}" for number, choice in enumerate(choices, 1))
    return {
        "instruction": "Give the number and the words of the right answer",
        "input": f"{ask(fact, TUNING, rng)}\n{numbers}",
        "output": f"({answer + 1}) {fact.value}",
    }


PRACTICE = (listed, in_a_sentence, numbered)


def practice(facts: Sequence[Fact], options: Options, rng: random.Random) -> list[dict[str, str]]:
    """One row for every fact; the layouts of PRACTICE take turns."""
    return [
        PRACTICE[number % len(PRACTICE)](fact, options, rng) for number, fact in enumerate(facts)
    ]


def questions(facts: Sequence[Fact], options: Options, rng: random.Random) -> list[dict[str, str]]:
    """Three rows for every fact: a flashcard, one in Meadow's layout and one of PRACTICE."""
    cards = [flashcard(fact, rng) for fact in facts]
    meadow_rows = [meadow(fact, options, rng) for fact in facts]
    return cards + meadow_rows + practice(facts, options, rng)
