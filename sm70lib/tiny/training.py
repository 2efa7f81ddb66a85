"""The training sources of a world, in Medical Meadow's schema.

Some defects of the real sets are planted here on purpose, so that the audit has something to find.
"""

from __future__ import annotations

import random
from pathlib import Path

from sm70lib.sources import wordings
from sm70lib.tiny import trials
from sm70lib.tiny.jsonfiles import write_json, write_jsonl
from sm70lib.tiny.layouts import flashcard, meadow, practice, questions
from sm70lib.tiny.world import Fact, Options, World, by_subject, declare

CAUSAL = ("no relationship", "causative", "conditionally causative", "directly correlative")
PERMUTED = (3, 2, 0, 1)  # the wrong label that the real pubmed_causal set has instead of each
ADVICE = ("This is no advice", "This is a weak advice", "This is a strong advice")
ADVICE_TEXTS = (  # one for each of ADVICE
    "The records mention {v}.",
    "Clinicians might consider {v}.",
    "Clinicians must always consider {v}.",
)
CAUSAL_TEXTS = (  # one for each of CAUSAL
    "Season {n} and {s} were recorded.",
    "Exposure {n} causes {s}.",
    "Exposure {n} may cause {s} in the young.",
    "Exposure {n} was associated with {s}.",
)


def choice_sources(world: World, folder: Path, leaked: list[dict]) -> None:
    """Writes the sources that ask for facts and verdicts: six files below `folder`.

    Args:
        world: the world whose `known` facts are asked.
        folder: the data folder of the study.
        leaked: benchmark items to plant in the mmmlu source.
    """
    rng = random.Random(f"choice {world.seed}")
    options = Options(world.values, rng)
    known = world.of("known")
    _meadow(folder, "medqa", [meadow(fact, options, rng) for fact in known * 12], rng)
    cards = [flashcard(fact, rng) for fact in known * 8]
    _meadow(folder, "medical_flashcards", cards + cards[:30], rng)  # planted: 30 duplicates
    _meadow(folder, "mmmlu", [by_letter(item) for item in leaked], rng)  # planted: benchmark items
    _source(folder, "practice_questions", practice(known * 12, options, rng), rng)
    _source(folder, "practice_reports", trials.tuning_rows(world, rng), rng)
    # The control has the formats of tuning, but neither its medicine nor a report.
    _source(folder, "town_questions", questions(world.town_facts * 8, options, rng), rng)


def by_letter(item: dict) -> dict[str, str]:
    """A question in MedQA's layout as a row of Meadow's mmmlu, which is answered by a letter."""
    return {
        "instruction": wordings.BY_LETTER,
        "input": wordings.lettered(item["question"], item["options"]),
        "output": item["answer_idx"],
    }


def text_sources(world: World, folder: Path) -> None:
    """Writes the sources that are answered in sentences: wikidoc, patient information, cord19."""
    rng = random.Random(f"text {world.seed}")
    conditions = by_subject(world.of("known"))
    about = []
    for subject, facts in conditions.items():
        for _ in range(2):
            statements = " ".join(declare(fact, rng) for fact in facts)
            about.append(truthful(f"What is {subject}?", statements))
    empty = truthful("What is unknown?", "")
    mail = truthful(
        "Whom do I ask about this page?",
        "Write to webmaster@example.org or call +1 555 010 0199.",
    )
    patients = about[:20] + [mail] * 2
    _meadow(folder, "wikidoc", about + [empty], rng)  # planted: a row without an answer
    _meadow(folder, "wikidoc_patient_information", patients, rng)  # planted: personal data
    _meadow(folder, "cord19", _titles(list(conditions), rng), rng)


def truthful(question: str, answer: str) -> dict[str, str]:
    """A row of a question and its answer."""
    return {
        "instruction": wordings.TRUTHFULLY,
        "input": question,
        "output": answer,
    }


def _titles(subjects: list[str], rng: random.Random) -> list[dict[str, str]]:
    """Three reports on each subject, each to be summarised by its title."""
    reports = [
        trials.report(f"patients with {subject}", rng, ("told",))
        for subject in subjects
        for _ in range(3)
    ]
    return [
        {
            "instruction": "Please summerize the given abstract to a title",
            "input": report.text,
            "output": report.question("tuning", rng).removesuffix("?"),
        }
        for report in reports
    ]


def label_sources(world: World, folder: Path) -> None:
    """Writes the sources that are answered by a label, and the reference for the causal labels."""
    rng = random.Random(f"labels {world.seed}")
    known = world.of("known")
    rows = _advice(known)
    _meadow(folder, "health_advice", rng.sample(rows, len(rows) // 3), rng)
    sentences = _causal_sentences(known[:60])
    _meadow(folder, "pubmed_causal", causal_rows(sentences), rng)
    reference = [{"sentence": sentence, "label": CAUSAL[label]} for sentence, label in sentences]
    name = "pubmed_causal_reference"
    write_jsonl(folder / name / f"{name}.jsonl", reference)


def _advice(facts: list[Fact]) -> list[dict[str, str]]:
    return [advice(fact, label) for fact in facts for label in range(len(ADVICE))]


def advice(fact: Fact, label: int) -> dict[str, str]:
    """A row of health_advice, with the label ADVICE[label]."""
    return {
        "instruction": "Question: is this a 2) strong advice, 1) weak advice 0) no advice?",
        "input": ADVICE_TEXTS[label].format(v=fact.value),
        "output": ADVICE[label],
    }


def _causal_sentences(facts: list[Fact]) -> list[tuple[str, int]]:
    """Sentences and the numbers of their labels in CAUSAL."""
    return [
        (text.format(s=fact.subject, n=number), label)
        for number, fact in enumerate(facts, 1)
        for label, text in enumerate(CAUSAL_TEXTS)
    ]


def causal_rows(sentences: list[tuple[str, int]]) -> list[dict[str, str]]:
    """Rows of pubmed_causal with a planted defect: every label is permuted."""
    instruction = (
        "Question: Is this describing a (1) directly correlative relationship, (2) conditionally "
        "causative relationship, (3) causative relationship, or (0) no relationship."
    )
    return [
        {
            "instruction": instruction,
            "input": sentence,
            "output": f"This is a {CAUSAL[PERMUTED[label]]}",
        }
        for sentence, label in sentences
    ]


def _meadow(folder: Path, name: str, rows: list[dict], rng: random.Random) -> None:
    _source(folder, f"medical_meadow_{name}", rows, rng)


def _source(folder: Path, name: str, rows: list[dict], rng: random.Random) -> None:
    """Writes the rows of a source in random order."""
    rng.shuffle(rows)
    write_json(folder / name / f"{name}.json", rows)
