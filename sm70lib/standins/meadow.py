"""Medical Meadow's sets with a few dozen rows each, in the one JSON file that the hub has of each.

They carry the known faults of the real sets: a benchmark question among the training rows, a
repeated row, an e-mail address, an empty answer, permuted labels.
"""

from __future__ import annotations

from collections.abc import Callable

from sm70lib.standins.writer import ROWS, Writer
from sm70lib.tiny import layouts
from sm70lib.tiny.layouts import LETTERS
from sm70lib.tiny.training import ADVICE, CAUSAL_TEXTS, advice, by_letter, causal_rows, truthful
from sm70lib.tiny.world import TUNING, World, ask, declare


def _cards(writer: Writer) -> list[dict]:
    rows = [writer.card(fact) for fact in writer.facts]
    return [*rows, rows[0]]  # planted: a row twice


def _textbook(writer: Writer) -> list[dict]:
    return [*_cards(writer), truthful("Unknown?", "")]


def _patients(writer: Writer) -> list[dict]:
    return [*_cards(writer), truthful("Whom do I ask?", "Write to webmaster@example.org.")]


def _bracketed(writer: Writer) -> list[dict]:
    return [layouts.meadow(fact, writer.options, writer.rng) for fact in writer.facts]


def lettered(writer: Writer, leaks: list[dict]) -> list[dict]:
    """Rows of mmmlu, the first of which give benchmark items away.

    Args:
        writer: words the other rows.
        leaks: the benchmark items (question, options, answer_idx).
    """
    rows = [by_letter(leak) for leak in leaks]  # planted
    for fact in writer.facts:
        choices, answer = writer.options.draw(fact, 4)
        about = {"options": dict(zip(LETTERS, choices)), "answer_idx": LETTERS[answer]}
        rows.append(by_letter({"question": ask(fact, TUNING, writer.rng)} | about))
    return rows


def _causal(writer: Writer) -> list[dict]:
    return causal_rows(causal_sentences(writer.world))  # planted: permuted labels


def causal_sentences(world: World) -> list[tuple[str, int]]:
    """Sentences of pubmed_causal with their true labels (0 to 3), for the set and its reference."""
    sentences = []
    for n, fact in enumerate(world.facts[:ROWS]):
        label = n % len(CAUSAL_TEXTS)
        sentences.append((CAUSAL_TEXTS[label].format(n=n, s=fact.subject), label))
    return sentences


def _advice(writer: Writer) -> list[dict]:
    return [advice(fact, n % len(ADVICE)) for n, fact in enumerate(writer.facts)]


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
