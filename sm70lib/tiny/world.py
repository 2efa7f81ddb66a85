"""A fictional medicine: invented conditions with one value for each of five relations, and the words for them.

Nothing here exists, so nobody can take it for advice, and a fresh world is one seed away. Every value
belongs to equally many conditions, so that no answer is more frequent than another and a guesser who
ignores the question gains nothing (a guesser reached 45 % in an earlier, unbalanced world). A question is worded
differently in tuning, in the MedQA twin and in the USMLE twins: no test item repeats a stem of tuning.
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
    values = _medical_values(rng, words, conditions // SHARED_BY)
    values |= _town_values(rng, words, len(towns) // SHARED_BY + 1)
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


# ---- words ------------------------------------------------------------------------------------------

DECLARATIVE = {
    "drug": ["The drug of choice for {s} is {v}.", "{s} is treated with {v}.", "Physicians treat {s} with {v}.",
             "For {s} the first drug given is {v}.", "A patient with {s} should receive {v}.",
             "In {s} the effective drug is {v}.", "Treatment of {s} begins with {v}.", "{s} responds to {v}."],
    "sign": ["The hallmark sign of {s} is {v}.", "{s} presents with {v}.", "Patients with {s} show {v}.",
             "On examination {s} is known by {v}.", "A patient with {s} has {v}.",
             "In {s} the typical sign is {v}.", "The first sign of {s} is {v}.", "{s} causes {v}."],
    "finding": ["At autopsy {s} shows {v}.", "Biopsy in {s} reveals {v}.", "Tissue of patients with {s} contains {v}.",
                "Under the microscope {s} is marked by {v}.", "{s} leaves {v}.",
                "In {s} the pathologist sees {v}.", "The organ finding of {s} is {v}.", "Histology of {s} shows {v}."],
    "test": ["The test for {s} is the {v}.", "{s} is proved by the {v}.", "Physicians diagnose {s} by the {v}.",
             "To prove {s} one orders the {v}.", "A patient suspected of {s} needs the {v}.",
             "In {s} the decisive test is the {v}.", "Diagnosis of {s} rests on the {v}.", "{s} shows in the {v}."],
    "mechanism": ["The cause of {s} is {v}.", "{s} arises from {v}.", "Patients with {s} suffer from {v}.",
                  "At the root of {s} lies {v}.", "{s} is due to {v}.",
                  "In {s} the mechanism is {v}.", "The mechanism behind {s} is {v}.", "{s} begins with {v}."],
    "river": ["{s} lies on the river {v}.", "The river of {s} is the {v}.", "Through {s} flows the {v}."],
    "dish": ["The dish of {s} is {v}.", "People in {s} eat {v}.", "{s} is famous for its {v}."],
    "craft": ["The craft of {s} is {v}.", "People in {s} live by {v}.", "{s} is known for {v}."],
    "festival": ["The festival of {s} is the {v}.", "Each year {s} holds the {v}.", "{s} celebrates the {v}."],
}

# The tuple's parts: wordings asked in tuning, wordings of the MedQA twin, wordings of the USMLE twins.
QUESTIONS = {
    "drug": (["Which drug is given for {s}", "What is the drug of choice for {s}", "Which drug treats {s}"],
             ["Which of the following drugs should a patient with {s} receive", "With which drug is {s} treated"],
             ["A {age}-year-old {job} is found to have {s}. Which treatment should begin"]),
    "sign": (["What is the hallmark sign of {s}", "Which sign is typical of {s}", "Which sign do those with {s} show"],
             ["Which of the following signs does {s} present with", "By which sign is {s} known on examination"],
             ["A {age}-year-old {job} has {s}. Which sign will be seen on examination"]),
    "finding": (["What is the organ finding of {s}", "What does a biopsy show in {s}", "Which finding is seen in {s}"],
                ["Which of the following does histology of {s} show", "By which finding is {s} marked in a smear"],
                ["A {age}-year-old {job} dies of {s}. What does the autopsy show"]),
    "test": (["Which test confirms {s}", "What is the confirming test for {s}", "Which test detects {s}"],
             ["By which of the following tests is {s} confirmed", "On which test does the diagnosis of {s} rest"],
             ["A {age}-year-old {job} may have {s}. Which test should be ordered"]),
    "mechanism": (["What is the cause of {s}", "What is the mechanism of {s}", "From what does {s} arise"],
                  ["Which of the following lies at the root of {s}", "To which mechanism is {s} due"],
                  ["A {age}-year-old {job} suffers from {s}. What is the underlying mechanism"]),
    "river": (["On which river does {s} lie", "What is the river of {s}"],),
    "dish": (["What is the dish of {s}", "Which dish do people in {s} eat"],),
    "craft": (["What is the craft of {s}", "For which craft is {s} known"],),
    "festival": (["Which festival does {s} hold", "What is the festival of {s}"],),
}

JOBS = "baker mason weaver sailor tailor farmer teacher miner".split()
TUNING, MEDQA, USMLE = range(3)


def declare(fact: Fact, rng: random.Random) -> str:
    """A fact as a sentence, in one of its declarative phrasings."""
    sentence = rng.choice(DECLARATIVE[fact.relation]).format(s=fact.subject, v=fact.value)
    return sentence[0].upper() + sentence[1:]


def opening(fact: Fact, rng: random.Random) -> str:
    """A declarative phrasing up to the place of its value."""
    wordings = [wording for wording in DECLARATIVE[fact.relation] if wording.endswith(" {v}.")]
    sentence = rng.choice(wordings).removesuffix(" {v}.").format(s=fact.subject)
    return sentence[0].upper() + sentence[1:]


def ask(fact: Fact, use: int, rng: random.Random) -> str:
    """A fact as a question with its question mark; `use` is TUNING, MEDQA or USMLE."""
    wording = rng.choice(QUESTIONS[fact.relation][use])
    return wording.format(s=fact.subject, age=rng.randint(18, 80), job=rng.choice(JOBS)) + "?"


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
            raise ValueError(f"{fact.relation} has {len(self.values[fact.relation])} values, and {count} were asked")
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
