"""MMLU-Pro: questions of fourteen subjects with up to ten options (arXiv 2406.01574)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sm70lib.benchmarks.benchmark import TABLES, Benchmark
from sm70lib.benchmarks.fields import Found, lettered, objects, options_of


def mmlu_pro(path: Path, category: str | None = None) -> Found:
    """MMLU-Pro's table: options as a list, the right one as a letter and as a number from 0.

    With `category`, questions of the other subjects are passed over.
    """
    for number, row in objects(path):
        # A row that says no category may be of any, so it is listed as a defect.
        if category and row.get("category", category) != category:
            continue
        options = options_of(row)
        fields = {
            "id": str(row.get("question_id", f"{number:05}")),
            "question": row.get("question"),
            "options": options,
            "subject": row.get("category"),
            "gold": _gold(row, options),
        }
        yield number, row, fields


def _gold(row: dict, options: dict) -> object:
    """The letter of the right option; None where the row's letter and its number disagree."""
    letter = lettered(row.get("answer_index"), options)
    return letter if letter == row.get("answer") else None


def _as_row(question: dict) -> dict:
    letters = list(question["options"])
    return {
        "question": question["question"],
        "options": list(question["options"].values()),
        "answer": question["answer_idx"],
        "answer_index": letters.index(question["answer_idx"]),
        "category": "health",
    }


def _of(reader: Callable[[Path], Found]) -> Benchmark:
    return Benchmark(
        reader,
        "mmlu_pro",
        "TIGER-Lab/MMLU-Pro",
        ("data/{}-*.parquet", *TABLES),
        pools=("validation",),
        as_row=_as_row,
    )


ALL = _of(mmlu_pro)
HEALTH = _of(partial(mmlu_pro, category="health"))
