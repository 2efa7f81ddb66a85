"""Documents of real sets, to train on as running text and to measure the loss on."""

from __future__ import annotations

from collections.abc import Callable
from xml.sax.saxutils import escape

from sm70lib.sources.layouts import kept_back
from sm70lib.standins.writer import Files, Writer
from sm70lib.tiny.world import TUNING, Fact, ask, declare

DOCUMENTS = 24  # of a set: a t interval takes 20


def medquad(questions: list[tuple[str, str]]) -> str:
    """One of MedQuAD's documents, from questions and answers."""
    pairs = "".join(
        f"<QAPair><Question>{escape(question)}</Question><Answer>{escape(answer)}</Answer></QAPair>"
        for question, answer in questions
    )
    return f"<Document><QAPairs>{pairs}</QAPairs></Document>\n"


def _health(writer: Writer, folder: str, digit: str) -> Files:
    """Documents whose number ends in a digit."""
    return {
        f"{folder}/{n:06}{digit}.xml": medquad([_asked(writer, fact), _asked(writer, fact)])
        for n, fact in enumerate(writer.facts[:DOCUMENTS])
    }


def _asked(writer: Writer, fact: Fact) -> tuple[str, str]:
    return ask(fact, TUNING, writer.rng), declare(fact, writer.rng)


def _replies(writer: Writer, held: bool) -> Files:
    """Pairs whose prompts are held out, or those whose prompts are not; both may lie together."""
    rows: list[dict] = []
    while len(rows) < DOCUMENTS:
        fact = writer.rng.choice(writer.world.facts)
        question = f"Case {writer.rng.randrange(10**6)}: {ask(fact, TUNING, writer.rng)}"
        if kept_back(question) == held:
            better = " ".join(declare(fact, writer.rng) for _ in range(3))
            rows.append({"instruction": question, "chosen": better, "rejected": "Nobody knows."})
    return {f"standin/{'held' if held else 'read'}.json": rows}


# By benchmark
WRITERS: dict[str, Callable[[Writer], Files]] = {
    "senior_health_held_out": lambda writer: _health(writer, "7_SeniorHealth_QA", "0"),
    "cdc": lambda writer: _health(writer, "9_CDC_QA", "0"),
    "preferred_replies_held_out": lambda writer: _replies(writer, True),
    # 00_base makes the world that has these
    **{name: lambda writer: {} for name in ("new_facts", "old_text", "new_text")},
}
# By source
SOURCES: dict[str, Callable[[Writer], Files]] = {
    "medquad_senior_health": lambda writer: _health(writer, "7_SeniorHealth_QA", "4"),
    "preferred_replies": lambda writer: _replies(writer, False),
}
