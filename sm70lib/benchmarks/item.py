"""One question with its options and its answer, and files of such questions."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sm70lib.benchmarks.details import Details
from sm70lib.sources.records import open_bytes
from sm70lib.steps.steps import write_text
from sm70lib.study.params import StudyError


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
        details: what else the file says of the question.
    """

    id: str
    cluster: str
    benchmark: str
    question: str
    context: str
    options: tuple[str, ...]
    answer: int
    details: Details = Details()


def items_digest(items: list[Item]) -> str:
    """sha256 (hex) of the items' content, in order: tells what a prediction file was scored on."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(_row(item), sort_keys=True).encode())
    return digest.hexdigest()


def save(folder: Path, name: str, items: list[Item]) -> None:
    """Writes `<folder>/<name>.jsonl`, one item a line."""
    lines = [json.dumps(_row(item)) + "\n" for item in items]
    write_text(Path(folder) / f"{name}.jsonl", "".join(lines))


def load(folder: Path, name: str) -> list[Item]:
    """Reads the items that `save` wrote.

    Raises:
        StudyError: the file is missing, or has a detail that no item has.
    """
    path = Path(folder) / f"{name}.jsonl"
    if not path.exists():
        raise StudyError(f"{path} is missing: run 01_data of this study first")
    items = []
    with open_bytes(path) as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            try:
                details = Details.of(row.pop("meta", {}))
            except ValueError as error:
                raise StudyError(f"{path}, line {number}: {error}; run 01_data again.") from None
            row["options"] = tuple(row["options"])
            items.append(Item(**row, details=details))
    return items


def _row(item: Item) -> dict:
    """The item as files hold it; they call its details `meta`."""
    row = {name: value for name, value in vars(item).items() if name != "details"}
    return row | {"meta": item.details.said()}
