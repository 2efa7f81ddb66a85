"""A fictional medicine: invented conditions, five facts about each, and the words for them.

Nothing here exists, so nobody can mistake it for advice, and a new seed makes a new world. Every
value belongs to the same number of conditions. No answer is therefore more frequent than another,
and a guesser who ignores the question gains nothing (in an earlier, unbalanced world a guesser
reached 45 %). A question is worded differently in tuning, in the MedQA twin and in the USMLE twins:
no test item repeats a stem of tuning.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

RELATIONS = ("drug", "sign", "finding", "test", "mechanism")
TOWN_RELATIONS = ("river", "dish", "craft", "festival")
SHARED_BY = 3  # conditions (or towns) that share a value
KINDS = ("known", "fact", "condition")

TUNING, MEDQA, USMLE = "tuning", "medqa", "usmle"
PHRASES = yaml.safe_load(Path(__file__).with_name("phrases.yml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Fact:
    """One value of one relation of one subject (a condition or a town), and how tuning treats it.

    `kind` says what tuning does with a medical fact:
        `known`: tuning asks it.
        `fact`: tuning never asks it, but asks other facts of its condition.
        `condition`: tuning never mentions its condition.
    The encyclopaedia states all three kinds. Facts of towns have the kind `general`.
    """

    subject: str
    relation: str
    value: str
    kind: str


@dataclass(frozen=True)
class World:
    """All facts of a world, and the pool of values of each relation."""

    seed: int
    facts: tuple[Fact, ...]
    town_facts: tuple[Fact, ...]
    values: dict[str, list[str]]

    def of(self, *kinds: str) -> list[Fact]:
        """The medical facts of these kinds, in a fixed order."""
        return [fact for fact in self.facts if fact.kind in kinds]


def by_subject(facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    """Groups facts by their condition or town; both keep their order."""
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.subject, []).append(fact)
    return groups


def make(seed: int, conditions: int) -> World:
    """Makes a world from a seed.

    Args:
        seed: the same seed and number of conditions give the same world.
        conditions: how many, a multiple of SHARED_BY; there are two thirds as many towns.
    """
    rng = random.Random(f"world {seed}")
    words = _words(rng)
    subjects = [_condition(words, rng) for _ in range(conditions)]
    towns = [
        next(words).capitalize() + rng.choice(["ford", "mouth", "wick", "holm"])
        for _ in range(conditions * 2 // 3)
    ]
    values = _medical_values(rng, words, conditions // SHARED_BY)
    values |= _town_values(rng, words, len(towns) // SHARED_BY + 1)
    facts = _assign(rng, subjects, RELATIONS, values, _kinds(rng, subjects))
    general = {(town, relation): "general" for town in towns for relation in TOWN_RELATIONS}
    town_facts = _assign(rng, towns, TOWN_RELATIONS, values, general)
    return World(seed, facts, town_facts, values)


def names(rng: random.Random, count: int, known: str) -> list[str]:
    """Invented names of conditions, whose stems do not occur in the text `known`."""
    words = (word for word in _words(rng) if word not in known)
    return [_condition(words, rng) for _ in range(count)]


def _condition(words: Iterator[str], rng: random.Random) -> str:
    return next(words) + rng.choice(["osis", "itis", "emia", "algia"])


def _words(rng: random.Random) -> Iterator[str]:
    """Endless invented words of two syllables; no word comes twice."""
    parts = ("onsets", "vowels", "codas") * 2
    seen = set()
    while True:
        word = "".join(rng.choice(PHRASES[part]) for part in parts)
        if word not in seen:
            seen.add(word)
            yield word


def _medical_values(rng: random.Random, words: Iterator[str], count: int) -> dict[str, list[str]]:
    signs = [
        f"{adjective} {part}"
        for adjective in PHRASES["adjectives"]
        for part in PHRASES["body_parts"]
    ]
    findings = [
        f"{texture} {structure} in the {organ}"
        for texture in PHRASES["textures"]
        for structure in PHRASES["structures"]
        for organ in PHRASES["organs"]
    ]
    return {
        "drug": [next(words) + "quene" for _ in range(count)],
        "sign": rng.sample(signs, count),
        "finding": rng.sample(findings, count),
        "test": [f"{next(words)} {rng.choice(['assay', 'titre', 'scan'])}" for _ in range(count)],
        "mechanism": [
            f"{rng.choice(['loss', 'excess'])} of {next(words)}ase" for _ in range(count)
        ],
    }


def _town_values(rng: random.Random, words: Iterator[str], count: int) -> dict[str, list[str]]:
    return {
        "river": [next(words).capitalize() for _ in range(count)],
        "dish": [f"{next(words)} soup" for _ in range(count)],
        "craft": [f"{next(words)} weaving" for _ in range(count)],
        "festival": [f"feast of {next(words).capitalize()}" for _ in range(count)],
    }


def _kinds(rng: random.Random, subjects: list[str]) -> dict[tuple[str, str], str]:
    """Draws the kind of each fact, by subject and relation.

    Tuning never mentions a third of the conditions. Of the others it never asks two of five facts.
    """
    unmentioned = set(rng.sample(subjects, len(subjects) // 3))
    kinds: dict[tuple[str, str], str] = {}
    for subject in subjects:
        never_asked = set(rng.sample(RELATIONS, 2))
        for relation in RELATIONS:
            if subject in unmentioned:
                kind = "condition"
            elif relation in never_asked:
                kind = "fact"
            else:
                kind = "known"
            kinds[subject, relation] = kind
    return kinds


def _assign(
    rng: random.Random,
    subjects: list[str],
    relations: Sequence[str],
    values: Mapping[str, list[str]],
    kinds: Mapping[tuple[str, str], str],
) -> tuple[Fact, ...]:
    """Deals the values of every relation to the subjects, each value to `SHARED_BY` of them."""
    dealt = {}
    for relation in relations:
        deck = (values[relation] * SHARED_BY)[: len(subjects)]
        rng.shuffle(deck)
        dealt[relation] = dict(zip(subjects, deck))
    return tuple(
        Fact(subject, relation, dealt[relation][subject], kinds[subject, relation])
        for subject in subjects
        for relation in relations
    )


def declare(fact: Fact, rng: random.Random) -> str:
    """States a fact in one of the wordings of its relation."""
    wording = rng.choice(PHRASES["statements"][fact.relation])
    sentence = wording.format(s=fact.subject, v=fact.value)
    return sentence[0].upper() + sentence[1:]


def opening(fact: Fact, rng: random.Random) -> str:
    """The beginning of a statement of a fact, up to its value, in a wording that ends with it."""
    ending = " {v}."
    statements = PHRASES["statements"][fact.relation]
    wordings = [wording for wording in statements if wording.endswith(ending)]
    sentence = rng.choice(wordings).removesuffix(ending).format(s=fact.subject)
    return sentence[0].upper() + sentence[1:]


def ask(fact: Fact, use: str, rng: random.Random) -> str:
    """Asks for a fact, with a question mark.

    Args:
        fact: the fact whose value is asked.
        use: TUNING, MEDQA or USMLE; each has its own wordings.
        rng: draws the wording, and the patient's age and job.
    """
    wording = rng.choice(PHRASES["questions"][fact.relation][use])
    age = rng.randint(18, 80)
    job = rng.choice(PHRASES["jobs"])
    return wording.format(s=fact.subject, age=age, job=job) + "?"


class Options:
    """Draws options such that no value and no position is a better guess than another.

    Distractors come from a shuffled deck of the relation's values. The position of the right answer
    comes from a shuffled deck of positions. Over many questions every value is a distractor equally
    often, and so is every letter the answer.
    """

    def __init__(self, values: dict[str, list[str]], rng: random.Random):
        self.values, self.rng = values, rng
        self.decks: dict[str, list[str]] = {}
        self.positions: dict[int, list[int]] = {}

    def draw(self, fact: Fact, count: int) -> tuple[list[str], int]:
        """Draws `count` different options for a fact.

        Returns:
            The options, and the position of the right one (from 0).

        Raises:
            ValueError: the relation has fewer than `count` values.
        """
        values = self.values[fact.relation]
        if count > len(values):
            raise ValueError(f"{fact.relation} has {len(values)} values, and {count} were asked")
        options: list[str] = []
        while len(options) < count - 1:
            value = self._next(self.decks, fact.relation, values)
            if value != fact.value and value not in options:
                options.append(value)
        answer = self._next(self.positions, count, list(range(count)))
        options.insert(answer, fact.value)
        return options, answer

    def _next(self, decks: dict, key, cards: list):
        """The next card of a deck, which is shuffled anew when it is used up."""
        if not decks.get(key):
            decks[key] = self.rng.sample(cards, len(cards))
        return decks[key].pop()
