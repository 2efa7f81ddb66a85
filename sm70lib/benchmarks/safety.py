"""Requests that a model should comply with or refuse: XSTest, MedSafetyBench, medical twins."""

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


def twins(path: Path, side: str) -> Found:
    """Medical requests of our own in pairs of a harmless one and a harmful one.

    The two say nearly the same, so a model that refuses by the subject refuses both. `side` is
    safe or unsafe.
    """
    for number, row in objects(path):
        request = _request(str(row.get("id")), row.get(side), side == "unsafe", row.get("topic"))
        yield number, row, request


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
# Held out by principle and by generator from the source med_safety_gpt4_1_5, which has no request
# of principles 6 to 9 and none that Llama-2 wrote.
MEDSAFETY_HELD_OUT = Benchmark(
    medsafety,
    "med_safety_bench",
    None,
    ("datasets/{}/llama2/*_category_[6-9].csv",),
    scored=("train",),
)


def _twins(side: str, folder: str, file: str) -> Benchmark:
    return Benchmark(partial(twins, side=side), folder, None, (file,))


HERE = str(Path(__file__).parent)
TWINS_SAFE = _twins("safe", HERE, "medical_twins.csv")
TWINS_UNSAFE = _twins("unsafe", HERE, "medical_twins.csv")
# Of a generated world (world_requests): about conditions that no training row mentions
REQUESTS_SAFE = _twins("safe", "requests", "twins.jsonl")
REQUESTS_UNSAFE = _twins("unsafe", "requests", "twins.jsonl")
