"""MedMCQA: questions of Indian entrance exams with four options."""

from pathlib import Path

from sm70lib.benchmarks.benchmark import TABLES, Benchmark
from sm70lib.benchmarks.fields import Found, flat, objects, options_of
from sm70lib.study.params import StudyError


def medmcqa(path: Path) -> Found:
    """MedMCQA: the authors' JSON Lines, the hub's table, and the hub's formatted version of it."""
    first = _first_cop(path)
    for number, record in objects(path):
        row = flat(record)
        options: dict = options_of(row)
        if not options:
            options = {label: row.get(f"op{letter}") for label, letter in enumerate("abcd", first)}
        fields = {
            "id": str(row.get("id")),
            "question": row.get("question"),
            "options": options,
            "gold": row.get("cop", row.get("correct_option")),
            "explanation": row.get("exp", row.get("explanation")),
            "subject": row.get("subject_name"),
        }
        yield number, row, fields


def _first_cop(path: Path) -> int:
    """The `cop` (correct option) of a first option: 0 or 1.

    The authors count from 1: all 1,076 explanations of dev that name a letter agree. The hub counts
    from 0, with -1 where there is no label. Others convert one form into the other, so what the
    file itself shows comes first; the publisher's habit decides only where it shows nothing.

    Raises:
        StudyError: the file holds both a 0 and a 4.
    """
    rows = {row.get("cop"): number for number, row in objects(path) if type(row.get("cop")) is int}
    if {0, 4} <= rows.keys():
        raise StudyError(
            f"{path}: cop is 0 in row {rows[0]} and 4 in row {rows[4]}, but it counts "
            "either from 0 to 3 or from 1 to 4; get the file again."
        )
    if 0 in rows:
        return 0
    if 4 in rows:
        return 1
    return 0 if path.suffix == ".parquet" else 1


# Scored on dev, as the test has no labels.
DEV = Benchmark(
    medmcqa,
    "medmcqa",
    "openlifescienceai/medmcqa",
    ("data/{}*.json", *TABLES),
    scored=("dev", "validation"),
    pools=("train",),
)
