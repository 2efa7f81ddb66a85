"""Held-out documents: nothing is asked, and what counts is how likely the text is to a model.

A document is cut into pieces, which are the same for every model, whatever its tokenizer. Each
piece is an item: the text is its one option, and the document its cluster.
"""

from collections.abc import Iterator
from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, objects
from sm70lib.sources.layouts import answer_of, kept_back, pair_of
from sm70lib.sources.problems import shaped

PIECE = 1000  # characters: about 250 tokens, for which every context has room


def texts(path: Path) -> Found:
    """Texts of an invented world; `cluster` names what each is about."""
    for number, row in objects(path):
        yield from _pieces(number, row, f"{number:05}", row.get("text"))


def medquad(path: Path) -> Found:
    """A document of MedQuAD: its questions with their answers; it is one cluster."""
    for number, record in objects(path):
        row = shaped(answer_of, record)
        text = row["output"] if isinstance(row, dict) else None
        yield from _pieces(number, {"cluster": path.stem}, f"{path.stem}/{number:03}", text)


def replies(path: Path) -> Found:
    """The better answer of every pair whose prompt is kept back from training."""
    for number, record in objects(path):
        pair = shaped(pair_of, record)
        key = f"{path.stem}/{number:05}"
        if isinstance(pair, str):
            yield from _pieces(number, {"cluster": key}, key, None)
        elif kept_back(pair["input"]):
            yield from _pieces(number, {"cluster": key}, key, pair["output"])


def _pieces(number: int, row: dict, key: str, text: object) -> Found:
    """The pieces of a text; without a text one that cannot be used, so that it is listed."""
    for place, piece in enumerate(_cut(text)):
        fields = {"id": f"{key}/{place:03}", "question": piece, "options": {"text": piece}}
        yield number, row, fields | {"gold": "text"}


def _cut(text: object) -> Iterator[object]:
    """Parts of at most PIECE characters, which end at a blank where there is one."""
    if not isinstance(text, str):
        yield None
        return
    rest = text.strip()
    while len(rest) > PIECE:
        end = rest.rfind(" ", 1, PIECE + 1)
        end = PIECE if end < 0 else end
        yield rest[:end]
        rest = rest[end:].lstrip()
    yield rest


def _of_a_world(name: str) -> Benchmark:
    return Benchmark(texts, name, None, (f"{name}.jsonl",))


def _of_medquad(pattern: str) -> Benchmark:
    return Benchmark(medquad, "medquad", None, (pattern,))


OLD_TEXT = _of_a_world("old_text")
NEW_TEXT = _of_a_world("new_text")
# The source medquad_senior_health has the documents whose number ends in 4 to 9.
SENIOR_HEALTH = _of_medquad("7_SeniorHealth_QA/*[0-3].xml")
CDC = _of_medquad("9_CDC_QA/*.xml")
REPLIES = Benchmark(replies, "preference_pairs", None, ("*/**/*.json*",))
