"""MMLU-Pro: questions of fourteen subjects with up to ten options (arXiv 2406.01574)."""

from pathlib import Path

from sm70lib.benchmarks.benchmark import TABLES, Benchmark
from sm70lib.benchmarks.fields import Found, gold_of, objects, options_of


def mmlu_pro(path: Path) -> Found:
    """MMLU-Pro's table: options as a list, the right one as a letter and as a number from 0."""
    for number, row in objects(path):
        options = options_of(row)
        fields = {
            "id": str(row.get("question_id", f"{number:05}")),
            "question": row.get("question"),
            "options": options,
            "subject": row.get("category"),
            "gold": gold_of({"answer_idx": row.get("answer_index"), "answer": _text(row)}, options),
        }
        yield number, row, fields


def _text(row: dict) -> object:
    """The text of the option that the row's letter names; None if it names none."""
    return options_of(row).get(row.get("answer"))


def _as_row(question: dict) -> dict:
    letters = list(question["options"])
    return {
        "question": question["question"],
        "options": list(question["options"].values()),
        "answer": question["answer_idx"],
        "answer_index": letters.index(question["answer_idx"]),
        "category": "health",
    }


ALL = Benchmark(
    mmlu_pro,
    "mmlu_pro",
    "TIGER-Lab/MMLU-Pro",
    ("data/{}-*.parquet", *TABLES),
    pools=("validation",),
    as_row=_as_row,
)
