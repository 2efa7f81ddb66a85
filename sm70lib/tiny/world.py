"""A fictional medicine: invented conditions, each with one value for each of five relations.

Nothing here exists, so nobody can take it for advice, and a fresh world is one seed away. Every value
belongs to equally many conditions, so that no answer is more frequent than another and a guesser who
ignores the question gains nothing (a guesser reached 45 % in an earlier, unbalanced world).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

RELATIONS = ("drug", "sign", "finding", "test", "mechanism")
TOWN_RELATIONS = ("river", "dish", "craft", "festival")
SHARED_BY = 3  # conditions (or towns) that share a value
KINDS = ("known", "fact", "condition")

ONSETS = "b br c d dr f g gl h j k kr l m n p pr r s st t tr v vl w z".split()
VOWELS = "a e i o u ai ei ou".split()
CODAS = ["", "l", "n", "r", "s", "m", "x"]
ADJECTIVES = "amber humming mottled frosted drifting silver brittle glowing velvet crooked".split()
BODY_PARTS = "nails wrists eyelids shins knuckles earlobes gums elbows heels temples".split()
TEXTURES = "spiral latticed beaded feathered glassy forked rippled braided pitted hollow".split()
STRUCTURES = "plaques cysts bands nodules fibres crystals ridges pockets threads rings".split()
ORGANS = "spleen liver thymus kidney pancreas bladder lung marrow retina stomach".split()


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
    subjects = [next(words) + rng.choice(["osis", "itis", "emia", "algia"]) for _ in range(conditions)]
    towns = [next(words).capitalize() + rng.choice(["ford", "mouth", "wick", "holm"])
             for _ in range(conditions * 2 // 3)]
    values = _medical_values(rng, words, conditions // SHARED_BY) | _town_values(rng, words, len(towns) // SHARED_BY + 1)
    facts = _assign(rng, subjects, RELATIONS, values, _kinds(rng, subjects))
    general = {(town, relation): "general" for town in towns for relation in TOWN_RELATIONS}
    return World(seed, facts, _assign(rng, towns, TOWN_RELATIONS, values, general), values)


def _words(rng: random.Random):
    """Invented words of two syllables, none given twice."""
    seen = set()
    while True:
        word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(2))
        if word not in seen:
            seen.add(word)
            yield word


def _medical_values(rng: random.Random, words, count: int) -> dict[str, list[str]]:
    signs = [f"{adjective} {part}" for adjective in ADJECTIVES for part in BODY_PARTS]
    findings = [f"{texture} {structure} in the {organ}"
                for texture in TEXTURES for structure in STRUCTURES for organ in ORGANS]
    return {
        "drug": [next(words) + "quene" for _ in range(count)],
        "sign": rng.sample(signs, count),
        "finding": rng.sample(findings, count),
        "test": [f"{next(words)} {rng.choice(['assay', 'titre', 'scan'])}" for _ in range(count)],
        "mechanism": [f"{rng.choice(['loss', 'excess'])} of {next(words)}ase" for _ in range(count)],
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
            kinds[subject, relation] = ("condition" if subject in unmentioned
                                        else "fact" if relation in never_asked else "known")
    return kinds


def _assign(rng: random.Random, subjects, relations, values, kinds) -> tuple[Fact, ...]:
    """Deals every relation's values out to the subjects, each value to `SHARED_BY` of them."""
    dealt = {}
    for relation in relations:
        deck = (values[relation] * SHARED_BY)[: len(subjects)]
        rng.shuffle(deck)
        dealt[relation] = dict(zip(subjects, deck))
    return tuple(Fact(subject, relation, dealt[relation][subject], kinds[subject, relation])
                 for subject in subjects for relation in relations)
