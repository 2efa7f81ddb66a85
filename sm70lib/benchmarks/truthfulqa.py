"""TruthfulQA: questions that people often answer wrongly."""

from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, objects


def truthfulqa(path: Path) -> Found:
    """TruthfulQA's 817: mc1 gives the options; mc2's labels and the category are details."""
    categories = _categories(path)
    for number, row in objects(path):
        question, single = row.get("question"), _targets(row.get("mc1_targets"))
        right = [text for text, label in single.items() if label == 1]
        fields = {
            "id": f"{number:05}",
            "question": question,
            "options": {text: text for text in single},
            "gold": right[0] if len(right) == 1 else None,
            "mc2": _targets(row.get("mc2_targets")),
            "category": categories.get(question) if isinstance(question, str) else None,
        }
        yield number, row, fields


def _categories(path: Path) -> dict:
    """Categories by question. They stand in a table beside the file, if anywhere."""
    authors = path.parent.glob("TruthfulQA.csv")
    hub = path.parents[1].glob("generation/**/*.parquet")
    categories = {}
    for file in [*authors, *hub]:
        for _, row in objects(file):
            question = row.get("Question", row.get("question"))
            if isinstance(question, str):
                categories[question] = row.get("Category", row.get("category"))
    return categories


def _targets(targets: object) -> dict:
    """Answers with their labels; {} if a label is neither 1 nor 0. The hub has a list of each."""
    if not isinstance(targets, dict):
        return {}
    choices, labels = targets.get("choices"), targets.get("labels")
    if isinstance(choices, list):
        if not isinstance(labels, list) or len(labels) != len(choices):
            return {}
        if not all(isinstance(choice, str) for choice in choices):
            return {}
        targets = dict(zip(choices, labels))
    labelled = all(label in (0, 1) for label in targets.values())
    return targets if labelled else {}


MULTIPLE_CHOICE = Benchmark(
    truthfulqa,
    "truthfulqa",
    "truthfulqa/truthful_qa",
    (
        "data/v1/mc_task.json",
        "multiple_choice/validation-*.parquet",
        "multiple_choice/**/*.parquet",
        "generation/validation-*.parquet",  # the categories, which are fetched with the questions
    ),
)
