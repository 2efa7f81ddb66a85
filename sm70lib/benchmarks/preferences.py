"""Preference pairs as items: two answers to a prompt, of which the better one is right."""

from functools import partial
from pathlib import Path
from zlib import crc32

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found
from sm70lib.benchmarks.item import Item
from sm70lib.sources.alignment import answered
from sm70lib.sources.catalogue import Shape
from sm70lib.sources.layouts import pair_of
from sm70lib.sources.problems import shaped
from sm70lib.sources.records import records

LABELS = ("A", "B")
ONE_QUESTION = (("user",), ("system", "user"))  # the roles of turns that an item has a place for
SEVERAL = "several turns, for which an item has no place"
LIKE = 0.2  # answers are of like length if the shorter lacks at most this share of the longer


def pairs(path: Path, shape: Shape = pair_of) -> Found:
    """The pairs of a file; which of the two answers comes first is drawn by the pair's id.

    A model that finds both alike, or takes the first, is therefore right in half of them.
    """
    for number, record in records(path):
        row = record if isinstance(record, dict) else {}
        key = f"{path.parent.name}/{path.stem}/{number:04}"
        yield number, row, _fields(key, shaped(shape, record), row)


def _fields(key: str, made: dict | str, row: dict) -> dict:
    """The fields of an item; `unusable` is the reason why there is none."""
    if isinstance(made, str):
        return {"unusable": made}
    turns = made.get("turns") or (("user", made["input"]),)
    if tuple(speaker for speaker, _ in turns) not in ONE_QUESTION:
        return {"unusable": SEVERAL}
    answers = [made["output"], made["rejected"]]
    right = crc32(key.encode()) % len(LABELS)
    if right:
        answers.reverse()
    fields = {
        "id": key,
        "question": "\n\n".join(text for _, text in turns),
        "options": dict(zip(LABELS, answers)),
        "gold": LABELS[right],
    }
    return fields | ({"subject": row["subject"]} if "subject" in row else {})


def like_length(item: Item) -> bool:
    """Whether both answers of a pair have about the same number of characters."""
    shorter, longer = sorted(map(len, item.options))
    return longer - shorter <= LIKE * longer


REQUEST_PAIRS = Benchmark(pairs, "requests", None, ("pairs.jsonl",))
# Documents that no preference round reads (medquad_pairs_1 to _3)
MEDQUAD_PAIRS = Benchmark(partial(pairs, shape=answered), "medquad", None, ("*/*[8-9].xml",))
PUBLIC_PAIRS = Benchmark(pairs, "preference_pairs", None, ("*/**/*.json*",))
