"""Medical Meadow's sets with a few dozen rows each, in the one JSON file that the hub has of each.

What the real sets are known for is planted: a benchmark question among the training rows, a row
twice, an e-mail address, an empty answer, labels that are permuted.
"""

from __future__ import annotations

from collections.abc import Callable

from sm70lib.rehearsal.writer import ROWS, Writer
from sm70lib.tiny.world import TUNING, World, ask, declare

CAUSAL = ("no relationship", "causative", "conditionally causative", "directly correlative")
WRONG = (3, 2, 0, 1)  # the permuted label in place of each


def _cards(writer: Writer) -> list[dict]:
    rows = [writer.card(fact) for fact in writer.facts]
    return [*rows, rows[0]]  # planted: a row twice


def _textbook(writer: Writer) -> list[dict]:
    return [
        *_cards(writer),
        {"instruction": "Answer this question truthfully", "input": "Unknown?", "output": ""},
    ]


def _patients(writer: Writer) -> list[dict]:
    mail = {
        "instruction": "Answer this question truthfully",
        "input": "Whom do I ask?",
        "output": "Write to webmaster@example.org.",
    }
    return [*_cards(writer), mail]


def _bracketed(writer: Writer) -> list[dict]:
    rows = []
    for fact in writer.facts:
        choices, answer = writer.options.draw(fact, 5)
        options = dict(zip("ABCDE", choices))
        rows.append(
            {
                "instruction": "Please answer with one of the option in the bracket",
                "input": f"Q:{ask(fact, TUNING, writer.rng)}? \n{options},",
                "output": f"{'ABCDE'[answer]}: {fact.value}",
            }
        )
    return rows


def lettered(writer: Writer, leak: dict) -> list[dict]:
    """mmmlu, with the benchmark item `leak` (question, options, answer_idx) among its rows."""
    items = [leak]  # planted: a benchmark question with its options and its answer
    for fact in writer.facts:
        choices, answer = writer.options.draw(fact, 4)
        items.append(
            {
                "question": ask(fact, TUNING, writer.rng),
                "options": dict(zip("ABCD", choices)),
                "answer_idx": "ABCD"[answer],
            }
        )
    return [
        {
            "instruction": "Please answer the letter of option truthfully",
            "output": item["answer_idx"],
            "input": f"Q:{item['question']}? \n"
            + ";".join(f"{letter}:{text}" for letter, text in item["options"].items()),
        }
        for item in items
    ]


def _causal(writer: Writer) -> list[dict]:
    asked = (
        "Question: Is this describing a (1) directly correlative relationship, (2) conditionally "
        "causative relationship, (3) causative relationship, or (0) no relationship."
    )
    return [
        {"instruction": asked, "input": sentence, "output": f"This is a {CAUSAL[WRONG[label]]}"}
        for sentence, label in causal_sentences(writer.world)
    ]


def causal_sentences(world: World) -> list[tuple[str, int]]:
    """Sentences of pubmed_causal with their true labels, for the set and for its reference."""
    wordings = (
        "Season {n} and {s} were recorded.",
        "Exposure {n} causes {s}.",
        "Exposure {n} may cause {s} in the young.",
        "Exposure {n} was associated with {s}.",
    )
    subjects = [fact.subject for fact in world.facts[:ROWS]]
    return [(wordings[n % 4].format(n=n, s=subject), n % 4) for n, subject in enumerate(subjects)]


def _advice(writer: Writer) -> list[dict]:
    wordings = (
        ("The records mention {v}.", "This is no advice"),
        ("Clinicians might consider {v}.", "This is a weak advice"),
        ("Clinicians must always consider {v}.", "This is a strong advice"),
    )
    return [
        {
            "instruction": "Question: is this a 2) strong advice, 1) weak advice 0) no advice?",
            "input": wordings[n % 3][0].format(v=fact.value),
            "output": wordings[n % 3][1],
        }
        for n, fact in enumerate(writer.facts)
    ]


def _titles(writer: Writer) -> list[dict]:
    return [
        {
            "instruction": "Please summerize the given abstract to a title",
            "input": writer.text(4),
            "output": declare(fact, writer.rng),
        }
        for fact in writer.facts
    ]


def _consumers(writer: Writer) -> list[dict]:
    return [
        {
            "instruction": ask(fact, TUNING, writer.rng),
            "input": writer.text(6),
            "output": declare(fact, writer.rng),
        }
        for fact in writer.facts
    ]


MEADOW: dict[str, Callable[[Writer], list[dict]]] = {
    "medical_flashcards": _cards,
    "wikidoc": _textbook,
    "wikidoc_patient_information": _patients,
    "medqa": _bracketed,
    "pubmed_causal": _causal,
    "health_advice": _advice,
    "cord19": _titles,
    "mediqa": _consumers,
}
