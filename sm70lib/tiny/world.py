"""A fictional medicine: invented conditions with one value for each of five relations, and the words for them.

Nothing here exists, so nobody can take it for advice, and a fresh world is one seed away. Every value
belongs to equally many conditions, so that no answer is more frequent than another and a guesser who
ignores the question gains nothing (a guesser reached 45 % in an earlier, unbalanced world). A question is worded
differently in tuning, in the MedQA twin and in the USMLE twins: no test item repeats a stem of tuning.
"""

from __future__ import annotations

import random
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

    `kind`: `known` is asked in tuning, `fact` is never asked although its condition is, `condition`
    belongs to a condition that tuning never mentions; the last two stand in the encyclopaedia only.
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


def make(seed: int, conditions: int) -> World:
    """A world of `conditions` conditions (a multiple of 3) and two thirds as many towns."""
    rng = random.Random(f"world {seed}")
    words = _words(rng)
    subjects = [
        next(words) + rng.choice(["osis", "itis", "emia", "algia"]) for _ in range(conditions)
    ]
    towns = [
        next(words).capitalize() + rng.choice(["ford", "mouth", "wick", "holm"])
        for _ in range(conditions * 2 // 3)
    ]
    values = _medical_values(rng, words, conditions // SHARED_BY)
    values |= _town_values(rng, words, len(towns) // SHARED_BY + 1)
    facts = _assign(rng, subjects, RELATIONS, values, _kinds(rng, subjects))
    general = {(town, relation): "general" for town in towns for relation in TOWN_RELATIONS}
    return World(seed, facts, _assign(rng, towns, TOWN_RELATIONS, values, general), values)


def _words(rng: random.Random):
    """Invented words of two syllables, none given twice."""
    seen = set()
    while True:
        word = "".join(
            rng.choice(PHRASES[part]) for _ in range(2) for part in ("onsets", "vowels", "codas")
        )
        if word not in seen:
            seen.add(word)
            yield word


def _medical_values(rng: random.Random, words, count: int) -> dict[str, list[str]]:
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


def _town_values(rng: random.Random, words, count: int) -> dict[str, list[str]]:
    return {
        "river": [next(words).capitalize() for _ in range(count)],
        "dish": [f"{next(words)} soup" for _ in range(count)],
        "craft": [f"{next(words)} weaving" for _ in range(count)],
        "festival": [f"feast of {next(words).capitalize()}" for _ in range(count)],
    }


def _kinds(rng: random.Random, subjects: list[str]) -> dict[tuple[str, str], str]:
    """A third of the conditions is never mentioned; of the others' facts two in five are never asked."""
    unmentioned = set(rng.sample(subjects, len(subjects) // 3))
    kinds = {}
    for subject in subjects:
        never_asked = set(rng.sample(RELATIONS, 2))
        for relation in RELATIONS:
            kinds[subject, relation] = (
                "condition"
                if subject in unmentioned
                else "fact"
                if relation in never_asked
                else "known"
            )
    return kinds


def _assign(rng: random.Random, subjects, relations, values, kinds) -> tuple[Fact, ...]:
    """Deals every relation's values out to the subjects, each value to `SHARED_BY` of them."""
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
    """A fact as a sentence, in one of its declarative phrasings."""
    sentence = rng.choice(PHRASES["statements"][fact.relation]).format(s=fact.subject, v=fact.value)
    return sentence[0].upper() + sentence[1:]


def opening(fact: Fact, rng: random.Random) -> str:
    """A declarative phrasing up to the place of its value."""
    wordings = [
        wording for wording in PHRASES["statements"][fact.relation] if wording.endswith(" {v}.")
    ]
    sentence = rng.choice(wordings).removesuffix(" {v}.").format(s=fact.subject)
    return sentence[0].upper() + sentence[1:]


def ask(fact: Fact, use: int, rng: random.Random) -> str:
    """A fact as a question with its question mark; `use` is TUNING, MEDQA or USMLE."""
    wording = rng.choice(PHRASES["questions"][fact.relation][use])
    return (
        wording.format(s=fact.subject, age=rng.randint(18, 80), job=rng.choice(PHRASES["jobs"]))
        + "?"
    )


class Options:
    """Draws option lists in which no value and no position is a better guess than another.

    Distractors come from a shuffled deck of the relation's values and right answers take the positions
    in turn, so over many questions every value is a distractor, and every letter the answer, equally often.
    """

    def __init__(self, values: dict[str, list[str]], rng: random.Random):
        self.values, self.rng = values, rng
        self.decks: dict[str, list[str]] = {}
        self.positions: dict[int, list[int]] = {}

    def draw(self, fact: Fact, count: int) -> tuple[list[str], int]:
        """`count` different options for a fact, and the position of the right one.

        Raises ValueError when the relation has fewer values than that.
        """
        if count > len(self.values[fact.relation]):
            raise ValueError(
                f"{fact.relation} has {len(self.values[fact.relation])} values, and {count} were asked"
            )
        options: list[str] = []
        while len(options) < count - 1:
            value = self._next(self.decks, fact.relation, self.values[fact.relation])
            if value != fact.value and value not in options:
                options.append(value)
        answer = self._next(self.positions, count, list(range(count)))
        options.insert(answer, fact.value)
        return options, answer

    def _next(self, decks: dict, key, cards: list):
        if not decks.get(key):
            decks[key] = self.rng.sample(cards, len(cards))
        return decks[key].pop()
