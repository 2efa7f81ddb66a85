"""One question with its options and its answer, and files of such questions."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sm70lib.sources.records import open_bytes
from sm70lib.steps.steps import write_text


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        id: unique within a benchmark.
        cluster: items of one cluster are not independent of each other.
        benchmark: a key of BENCHMARKS.
        question: the text that is asked.
        context: a text that the question refers to, such as an abstract; "" for none.
        options: the texts of the options.
        answer: the right option's position, from 0.
        meta: whatever else the file says about the question.
    """

    id: str
    cluster: str
    benchmark: str
    question: str
    context: str
    options: tuple[str, ...]
    answer: int
    meta: dict = field(default_factory=dict)


def items_digest(items: list[Item]) -> str:
    """sha256 (hex) of the items' content, in order: tells what a prediction file was scored on."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(asdict(item), sort_keys=True).encode())
    return digest.hexdigest()


def save(folder: Path, name: str, items: list[Item]) -> None:
    """Writes `<folder>/<name>.jsonl`, one item a line."""
    lines = [json.dumps(asdict(item)) + "\n" for item in items]
    write_text(Path(folder) / f"{name}.jsonl", "".join(lines))


def load(folder: Path, name: str) -> list[Item]:
    """Reads the items that `save` wrote; raises StudyError if the file is missing."""
    items = []
    with open_bytes(Path(folder) / f"{name}.jsonl") as lines:
        for line in lines:
            row = json.loads(line)
            row["options"] = tuple(row["options"])
            items.append(Item(**row))
    return items
