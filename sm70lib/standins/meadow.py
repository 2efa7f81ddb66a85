"""Medical Meadow's sets with a few dozen rows each, in the one JSON file that the hub has of each.

They carry the known faults of the real sets: a benchmark question among the training rows, a
repeated row, an e-mail address, an empty answer, permuted labels.
"""

from __future__ import annotations

from collections.abc import Callable

from sm70lib.standins.writer import ROWS, Writer
from sm70lib.tiny.world import TUNING, World, ask, declare

CAUSAL = ("no relationship", "causative", "conditionally causative", "directly correlative")
WRONG = (3, 2, 0, 1)  # the label that stands in place of each true one


def _cards(writer: Writer) -> list[dict]:
    rows = [writer.card(fact) for fact in writer.facts]
    return [*rows, rows[0]]  # planted: a row twice


def _textbook(writer: Writer) -> list[dict]:
    unanswered = {
        "instruction": "Answer this question truthfully",
        "input": "Unknown?",
        "output": "",
    }
    return [*_cards(writer), unanswered]


def _patients(writer: Writer) -> list[dict]:
    with_mail = {
        "instruction": "Answer this question truthfully",
        "input": "Whom do I ask?",
        "output": "Write to webmaster@example.org.",
    }
    return [*_cards(writer), with_mail]


def _bracketed(writer: Writer) -> list[dict]:
    rows = []
    for fact in writer.facts:
        choices, answer = writer.options.draw(fact, 5)
        options = dict(zip("ABCDE", choices))
        question = ask(fact, TUNING, writer.rng)
        rows.append(
            {
                "instruction": "Please answer with one of the option in the bracket",
                "input": f"Q:{question}? \n{options},",
                "output": f"{'ABCDE'[answer]}: {fact.value}",
            }
        )
    return rows


def lettered(writer: Writer, leaks: list[dict]) -> list[dict]:
    """Rows of mmmlu, the first of which give benchmark items away.

    Args:
        writer: words the other rows.
        leaks: the benchmark items (question, options, answer_idx).
    """
    rows = [  # planted
        _lettered_row(leak["question"], leak["options"], leak["answer_idx"]) for leak in leaks
    ]
    for fact in writer.facts:
        choices, answer = writer.options.draw(fact, 4)
        question = ask(fact, TUNING, writer.rng)
        rows.append(_lettered_row(question, dict(zip("ABCD", choices)), "ABCD"[answer]))
    return rows


def _lettered_row(question: str, options: dict[str, str], answer: str) -> dict:
    listed = ";".join(f"{letter}:{text}" for letter, text in options.items())
    return {
        "instruction": "Please answer the letter of option truthfully",
        "output": answer,
        "input": f"Q:{question}? \n{listed}",
    }


def _causal(writer: Writer) -> list[dict]:
    instruction = (
        "Question: Is this describing a (1) directly correlative relationship, (2) conditionally "
        "causative relationship, (3) causative relationship, or (0) no relationship."
    )
    return [
        {
            "instruction": instruction,
            "input": sentence,
            "output": f"This is a {CAUSAL[WRONG[label]]}",  # planted: permuted labels
        }
        for sentence, label in causal_sentences(writer.world)
    ]


def causal_sentences(world: World) -> list[tuple[str, int]]:
    """Sentences of pubmed_causal with their true labels (0 to 3), for the set and its reference."""
    wordings = (
        "Season {n} and {s} were recorded.",
        "Exposure {n} causes {s}.",
        "Exposure {n} may cause {s} in the young.",
        "Exposure {n} was associated with {s}.",
    )
    sentences = []
    for n, fact in enumerate(world.facts[:ROWS]):
        label = n % len(wordings)
        sentences.append((wordings[label].format(n=n, s=fact.subject), label))
    return sentences


def _advice(writer: Writer) -> list[dict]:
    wordings = (
        ("The records mention {v}.", "This is no advice"),
        ("Clinicians might consider {v}.", "This is a weak advice"),
        ("Clinicians must always consider {v}.", "This is a strong advice"),
    )
    rows = []
    for n, fact in enumerate(writer.facts):
        sentence, verdict = wordings[n % len(wordings)]
        rows.append(
            {
                "instruction": "Question: is this a 2) strong advice, 1) weak advice 0) no advice?",
                "input": sentence.format(v=fact.value),
                "output": verdict,
            }
        )
    return rows


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
