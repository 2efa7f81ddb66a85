"""MedXpertQA, its part in text: exam questions with ten options (arXiv 2501.18362)."""

import re
from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, objects, options_of

# Behind its question a record repeats the options: "... Answer Choices: (A) ... (B) ..."
REPEATED = re.compile(r"\s*Answer Choices:\s*\(A\).*", re.DOTALL)


def medxpertqa(path: Path) -> Found:
    """MedXpertQA's JSON Lines, without the options that stand in the question once more."""
    for number, row in objects(path):
        question = row.get("question")
        fields = {
            "id": str(row.get("id", f"{number:05}")),
            "question": REPEATED.sub("", question) if isinstance(question, str) else question,
            "options": options_of(row),
            "gold": row.get("label"),
            "subject": row.get("body_system"),
            "category": row.get("question_type"),
        }
        yield number, row, fields


def _as_row(question: dict) -> dict:
    options = question["options"]
    repeated = " ".join(f"({letter}) {text}" for letter, text in options.items())
    return {
        "question": f"{question['question']}\nAnswer Choices: {repeated}",
        "options": options,
        "label": question["answer_idx"],
        "medical_task": "Treatment",
        "body_system": "Nervous",
        "question_type": "Reasoning",
    }


# The other part, MM, asks about pictures.
TEXT = Benchmark(
    medxpertqa,
    "medxpertqa",
    "TsinghuaC3I/MedXpertQA",
    ("Text/{}.jsonl",),
    pools=("dev",),
    as_row=_as_row,
)
