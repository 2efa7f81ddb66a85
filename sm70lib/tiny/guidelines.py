"""Guidelines: running text on further conditions, of which the encyclopaedia says nothing.

A base that was pretrained on the encyclopaedia has never read their names. What it knows of them
after continued pretraining, it has learned from the guidelines. As a control the same guidelines
are written with every fact given to another condition: they teach the same words and no fact.

Each fact is asked in a wording that no guideline uses, and that the encyclopaedia uses of the
conditions that the base knows. So a statement is not completed by repeating a sentence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sm70lib.tiny.jsonfiles import write_jsonl
from sm70lib.tiny.layouts import LETTERS
from sm70lib.tiny.world import (
    PHRASES,
    RELATIONS,
    Fact,
    Options,
    World,
    by_subject,
    declare,
    names,
)

NEW = "new"  # the kind of these facts
ARTICLES = 240  # guidelines on each condition: enough for one pass, so that replay is not repeated
ENDING = " {v}."


def write(world: World, conditions: int, folder: Path) -> None:
    """Writes guidelines, their control, and what is measured of both, below `folder`.

    Args:
        world: the world that gets further conditions.
        conditions: how many.
        folder: the data folder of the study.
    """
    facts = further(world, conditions)
    for name, told in (
        ("tiny_guidelines", facts),
        ("tiny_guidelines_permuted", permuted(facts, world.seed)),
    ):
        rng = random.Random(f"{name} {world.seed}")
        texts = [article for _ in range(ARTICLES) for article in _articles(told, rng)]
        rng.shuffle(texts)
        write_jsonl(folder / f"tiny_guidelines/{name}.jsonl", [{"text": text} for text in texts])
    write_jsonl(folder / "new_facts/new_facts.jsonl", _asked(world, facts))
    rng = random.Random(f"held out {world.seed}")
    written = {
        "new_text": dict(zip(by_subject(facts), _articles(facts, rng))),
        "old_text": {
            subject: " ".join(declare(fact, rng) for fact in rng.sample(group, len(group)))
            for subject, group in by_subject([*world.facts, *world.town_facts]).items()
        },
    }
    for name, documents in written.items():
        rows = [{"text": text, "cluster": subject} for subject, text in documents.items()]
        write_jsonl(folder / f"{name}/{name}.jsonl", rows)


def further(world: World, conditions: int) -> list[Fact]:
    """Facts of conditions that the world does not have; their values are the world's own.

    Every value belongs to as many of them as any other, or to one more.
    """
    rng = random.Random(f"guidelines {world.seed}")
    known = " ".join(fact.subject for fact in world.facts)
    subjects = names(rng, conditions, known)
    dealt = {}
    for relation in RELATIONS:
        values = world.values[relation]
        deck = (values * (conditions // len(values) + 1))[:conditions]
        rng.shuffle(deck)
        dealt[relation] = dict(zip(subjects, deck))
    return [
        Fact(subject, relation, dealt[relation][subject], NEW)
        for subject in subjects
        for relation in RELATIONS
    ]


def permuted(facts: Sequence[Fact], seed: int) -> list[Fact]:
    """The same facts with the values of every relation exchanged, so that none is true any more."""
    rng = random.Random(f"permuted {seed}")
    others: dict[tuple[str, str], str] = {}
    for relation in RELATIONS:
        of_relation = [fact for fact in facts if fact.relation == relation]
        true = [fact.value for fact in of_relation]
        values = list(true)
        while any(value == right for value, right in zip(values, true)):
            rng.shuffle(values)
        others |= {(fact.subject, relation): value for fact, value in zip(of_relation, values)}
    return [replace(fact, value=others[fact.subject, fact.relation]) for fact in facts]


def _articles(facts: Sequence[Fact], rng: random.Random) -> list[str]:
    """A guideline on every condition, with its facts in random order and wordings."""
    return [
        " ".join(_told(fact, rng) for fact in rng.sample(group, len(group)))
        for group in by_subject(facts).values()
    ]


def _told(fact: Fact, rng: random.Random) -> str:
    """States a fact in a wording that is not the one in which it is asked."""
    asked, *others = PHRASES["statements"][fact.relation]
    sentence = rng.choice(others).format(s=fact.subject, v=fact.value)
    return sentence[0].upper() + sentence[1:]


def _asked(world: World, facts: Sequence[Fact]) -> list[dict]:
    """The beginning of a statement of every fact, with four values of its relation."""
    options = Options(world.values, random.Random(f"new facts {world.seed}"))
    rows = []
    for fact in facts:
        choices, answer = options.draw(fact, 4)
        wording = PHRASES["statements"][fact.relation][0]
        rows.append(
            {
                "question": wording.removesuffix(ENDING).format(s=fact.subject),
                "options": dict(zip(LETTERS, choices)),
                "answer": fact.value,
                "answer_idx": LETTERS[answer],
                "cluster": fact.subject,
                "kind": fact.kind,
                "relation": fact.relation,
            }
        )
    return rows
