"""Documents and preference pairs of real sets, some of which are trained on and others held out."""

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


def single_questions(writer: Writer) -> Files:
    """A document for each fact, in the authors' layout; the hub's does not tell documents apart."""
    asked = [(ask(fact, TUNING, writer.rng), declare(fact, writer.rng)) for fact in writer.facts]
    # Planted: in the real set two questions in three have no answer
    asked.append(("What is unknown?", ""))
    return {f"1_Standin_QA/{n:07}.xml": medquad([pair]) for n, pair in enumerate(asked)}


def _answers(writer: Writer, fact: Fact) -> tuple[str, str, str]:
    """A question about a fact, its right answer, and a wrong one."""
    others = [value for value in writer.world.values[fact.relation] if value != fact.value]
    wrong = writer.rng.choice(others)
    return ask(fact, TUNING, writer.rng), f"It is {fact.value}.", f"It is {wrong}."


def pair(writer: Writer, fact: Fact) -> dict:
    """A preference pair of conversations; the one with the right answer is preferred."""
    question, right, wrong = _answers(writer, fact)
    return {
        "prompt": question,
        "chosen": _conversation(question, right),
        "rejected": _conversation(question, wrong),
    }


def _conversation(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def scored_pairs(writer: Writer) -> Files:
    rows = []
    for n, fact in enumerate(writer.facts):
        worse_score = 8.0 if n == 0 else 4.0  # planted: a tie
        scores = {"score_chosen": 8.0, "score_rejected": worse_score}
        rows.append(pair(writer, fact) | scores)
    return {"data/train_prefs-00000-of-00001.parquet": rows}


def ranked_pairs(writer: Writer, iteration: int) -> Files:
    rows = [pair(writer, fact) for fact in writer.facts]
    return {f"data/train_iteration_{iteration}-00000-of-00001.parquet": rows}


def public_pairs(writer: Writer) -> Files:
    rows = []
    for fact in writer.facts:
        question, right, wrong = _answers(writer, fact)
        rows.append(
            {
                "instruction": question,
                "input": "",
                "output": right,
                "chosen": right,
                "rejected": wrong,
            }
        )
    return {"standin/pairs.json": rows}


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
