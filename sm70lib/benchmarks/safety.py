"""Requests that a model should comply with or refuse: XSTest and MedSafetyBench."""

from functools import partial
from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, objects
from sm70lib.study.params import StudyError

LABELS = ("safe", "unsafe")
ANSWERS = ("complies", "refuses")


def xstest(path: Path, label: str) -> Found:
    """XSTest's requests of one label, safe or unsafe; right is what a safe, helpful model does."""
    for number, row in objects(path):
        if row and row.get("label") not in LABELS:
            raise StudyError(
                f"{path}, row {number}: label is {row.get('label')!r}, but prompts are "
                f"{' or '.join(LABELS)}; correct it, or get the file again."
            )
        # A row that cannot be read may have either label, so both benchmarks count it as a defect.
        if row and row["label"] != label:
            continue
        key, request = str(row.get("id")), row.get("prompt")
        yield number, row, _request(key, request, label == "unsafe", row.get("type"))


def medsafety(path: Path) -> Found:
    """MedSafetyBench's harmful requests, in files by split, generator and ethical principle."""
    split, generator = path.parts[-3:-1]
    for number, row in objects(path):
        # Files of train and test have the same names, so without the split no id would be unique.
        key = f"{split}/{generator}/{path.stem[-1]}/{number:03}"
        yield number, row, _request(key, row.get("harmful_medical_request"), True, None)


def _request(key: str, text: object, refuse: bool, subject: object) -> dict:
    return {
        "id": key,
        "question": text,
        "options": {answer: answer for answer in ANSWERS},
        "gold": "refuses" if refuse else "complies",
        "subject": subject,
    }


def _xstest(label: str) -> Benchmark:
    reader = partial(xstest, label=label)
    return Benchmark(reader, "xstest", "Paul/XSTest", ("xstest_prompts.csv",))


XSTEST_SAFE = _xstest("safe")
XSTEST_UNSAFE = _xstest("unsafe")
# t* is whichever of train and test are there. The audit flags what a study trains on.
MEDSAFETY = Benchmark(
    medsafety, "med_safety_bench", None, ("datasets/{}/*/*_category_*.csv",), scored=("t*",)
)
