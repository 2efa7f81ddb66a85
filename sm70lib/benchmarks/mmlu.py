"""MMLU's medical subjects: the usual six, and the nine that Meditron reports."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, lettered, objects, options_of
from sm70lib.sources.records import table

SIX = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
)
# Meditron's (arXiv 2311.16079, table 12)
NINE = (*SIX, "high_school_biology", "nutrition", "virology")
COLUMNS = ("question", "A", "B", "C", "D", "answer")
PATTERNS = ("data/{0}/*_{0}.csv", "*/{}-*.parquet", "*/{}/*.parquet", "*/{}.parquet")


def mmlu(path: Path, subjects: tuple[str, ...]) -> Found:
    """MMLU: the authors' CSV without header, and the tables of cais and lukaemon by subject."""
    subject = _subject(path)
    if subject not in subjects:
        return
    rows = _csv_rows(path) if path.suffix == ".csv" else objects(path)
    for number, row in rows:
        options = options_of(row)
        fields = {
            "id": f"{subject}/{number:04}",
            "question": row.get("question", row.get("input")),
            "options": options,
            "subject": subject,
            "gold": lettered(row.get("answer", row.get("target")), options),
            # A reader that takes the first row for a header loses it, as Meditron's did (it had
            # 1,862 of 1,871).
            "swallowed": number == 0,
        }
        yield number, {}, fields


def _subject(path: Path) -> str:
    """The subject that names a CSV file, or the folder of a table; "" for none."""
    if path.suffix == ".csv":
        return path.stem.rpartition("_")[0]
    return next((part for part in reversed(path.parts) if part in NINE), "")


def _csv_rows(path: Path) -> Iterator[tuple[int, dict]]:
    for number, cells in enumerate(table(path)):
        yield number, dict(zip(COLUMNS, cells)) if len(cells) == len(COLUMNS) else {}


def _benchmark(subjects: tuple[str, ...]) -> Benchmark:
    reader = partial(mmlu, subjects=subjects)
    return Benchmark(reader, "mmlu_medical", "cais/mmlu", PATTERNS, pools=("dev",))


SIX_SUBJECTS = _benchmark(SIX)
NINE_SUBJECTS = _benchmark(NINE)
