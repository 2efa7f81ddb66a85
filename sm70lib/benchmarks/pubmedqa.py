"""PubMedQA: yes, no or maybe, to be concluded from an abstract whose conclusion is left out."""

import re
from collections.abc import Iterable
from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, flat, objects
from sm70lib.sources.records import load_json
from sm70lib.study.params import StudyError

FOLDER = "pubmedqa"
HUB = "qiaojin/PubMedQA"
PATTERNS = (
    "data/ori_pqal.json",
    "**/pqa_labeled/*.parquet",
    "**/*labeled*/*.parquet",
    "**/*.parquet",
)
ANSWERS = ("yes", "no", "maybe")


def pubmedqa(path: Path) -> Found:
    """PubMedQA's 1,000: the authors' object keyed by PMID, and the tables of three publishers.

    The publishers are qiaojin, BigBIO and openlifescienceai.

    Raises:
        StudyError: nothing says which items are the official test, or the authors' list of the
            test names items that the file does not have.
    """
    test_list = _test_list(path)
    test = load_json(test_list, dict) if test_list else {}
    seen = 0
    for number, (key, record) in enumerate(_keyed(path)):
        if not test and (path.suffix == ".json" or "pubid" in record or not _split(path)):
            raise StudyError(
                f"{path}: nothing says which 500 are the test; put the authors' "
                "test_ground_truth.json beside it (params/data.md)."
            )
        seen += key in test
        row = flat(record) if isinstance(record, dict) else {}
        in_test = key in test if test else _split(path) == "test"
        yield number, row, _fields(key, row, test, in_test)
    if seen < len(test):
        raise StudyError(
            f"{path} lacks {len(test) - seen} of the {len(test)} test items that {test_list} "
            "names; get both files from the same place."
        )


def pubmedqa_dev(path: Path) -> Found:
    """PubMedQA's 500 labelled items outside the official test: for choosing, never for testing."""
    for number, row, fields in pubmedqa(path):
        in_test = fields.pop("test")
        if not in_test:
            yield number, row, fields


def _test_list(path: Path) -> Path | None:
    """The authors' list of the test, from the nearest of three folders above; None without one."""
    for folder in path.parents[:3]:
        listed = folder / "test_ground_truth.json"
        if listed.exists():
            return listed
    return None


def _keyed(path: Path) -> Iterable[tuple[str, dict]]:
    """Records with their PMIDs, or with the id that a table gives them."""
    if path.suffix == ".json":
        return load_json(path, dict).items()
    return ((_key(path, number, row), row) for number, row in objects(path))


def _key(path: Path, number: int, row: dict) -> str:
    return str(row.get("pubid", row.get("id", f"{path.stem}/{number}")))


def _split(path: Path) -> str:
    """The split that begins the name of a table or else of its folder; "" for none."""
    for name in (path.stem, path.parent.name):
        begins = re.match("train|validation|dev|test", name)
        if begins:
            return begins[0]
    return ""


def _fields(key: str, row: dict, test: dict, in_test: bool) -> dict:
    context = row.get("context")
    details = context if isinstance(context, dict) else row
    texts = details.get("contexts", context)
    human = row.get("reasoning_required_pred") or details.get("reasoning_required_pred")
    gold = row.get("final_decision", row.get("correct_answer"))
    agreed = test.get(key, gold) == gold
    return {
        "id": key,
        "question": row.get("question"),
        "context": "\n".join(map(str, texts)) if isinstance(texts, list) else texts,
        "options": {answer: answer for answer in ANSWERS},
        "gold": gold if agreed else None,
        "explanation": row.get("long_answer"),
        "test": in_test,
        "human": _joined(human),  # the answer of a person who did not see the conclusion
    }


def _joined(letters: object) -> object:
    """The hub's ["y", "e", "s"] as one text; anything else as it is."""
    if isinstance(letters, list) and all(isinstance(letter, str) for letter in letters):
        return "".join(letters)
    return letters


ALL = Benchmark(pubmedqa, FOLDER, HUB, PATTERNS)
# For choosing between models. It has no pool: all labelled items outside the test are scored.
DEV = Benchmark(pubmedqa_dev, FOLDER, HUB, PATTERNS)
