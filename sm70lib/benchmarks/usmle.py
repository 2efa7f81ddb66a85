"""The USMLE's own sample questions (self-assessment), one benchmark for each of three steps."""

import re
from functools import partial
from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import IMAGE, Found, gold_of, objects, options_of
from sm70lib.sources.records import load_json
from sm70lib.study.params import StudyError

# What Clinical Camel's list calls the steps.
STEPS = {1: "one", 2: "two", 3: "three"}
MARK = re.compile(r"\(([A-J])\)")


def usmle(path: Path, step: int) -> Found:
    """One step of the sample exam: MedAlpaca's JSON, the hub's tables or Clinical Camel's list."""
    if path.name == "step_exams.jsonl":
        return _from_list_of_all_steps(path, step)
    if path.suffix == ".json":
        return _from_medalpaca(path)
    return _from_table(path, step)


def _from_table(path: Path, step: int) -> Found:
    for number, row in objects(path):
        options = options_of(row)
        fields = {
            "id": str(number),
            "question": row.get("question"),
            "options": options,
            "gold": gold_of(row, options),
            "step": f"step{step}",
        }
        yield number, row, fields


def _from_medalpaca(path: Path) -> Found:
    """Two files beside this one hold the solutions and the list of questions with pictures."""
    solutions = load_json(path.with_name(f"{path.stem}_solutions.json"), dict)
    pictured = _pictured(path)
    for number, row in objects(path):
        key = str(row.get("no"))
        fields = {
            "id": key,
            "question": row.get("question"),
            "options": options_of(row),
            "gold": IMAGE if number in pictured else solutions.get(key),
            "step": path.stem,
        }
        yield number, row, fields


def _pictured(path: Path) -> list[int]:
    """Positions of the questions in this file that show a picture."""
    images = path.with_name("question_with_images.json")
    if not images.exists():
        return []
    by_step = load_json(images, dict)
    if path.stem not in by_step:
        raise StudyError(
            f"{images}: there is no list {path.stem} of questions with pictures, only "
            f"{', '.join(by_step) or 'none'}; get the file again."
        )
    return by_step[path.stem]


def _from_list_of_all_steps(path: Path, step: int) -> Found:
    """One text holds stem and options. A row without a step has that of the row before."""
    category = None
    for number, row in objects(path):
        category = row.get("category") or category
        if category not in STEPS.values():
            raise StudyError(
                f"{path}, row {number}: category is {category!r}, but the steps are "
                f"{', '.join(STEPS.values())}; correct it, or get the file again."
            )
        if category != STEPS[step]:
            continue
        stem, options = _stem_and_options(str(row.get("text")))
        answer = MARK.match(str(row.get("answer")))
        fields = {
            "id": f"{number:03}",
            "question": stem,
            "options": options,
            "gold": answer[1] if answer else None,
            "step": f"step{step}",
        }
        yield number, row, fields


def _stem_and_options(text: str) -> tuple[str, dict[str, str]]:
    """Splits `stem (A) ... (B) ...`; "" and {} if no option is marked.

    The options begin at the last (A), since a stem may hold marks of its own.
    """
    marks = list(MARK.finditer(text))
    firsts = [place for place, mark in enumerate(marks) if mark[1] == "A"]
    if not firsts:
        return "", {}
    marks = marks[firsts[-1] :]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = {mark[1]: text[mark.end() : end].strip() for mark, end in zip(marks, ends)}
    return text[: marks[0].start()].strip(), options


def _benchmark(step: int) -> Benchmark:
    patterns = (
        f"step{step}.json",
        "**/step_exams.jsonl",
        f"*step_{step}*/**/*.parquet",
        f"*step{step}*/**/*.parquet",
        # Named only so that they are downloaded: the reader opens them beside step<n>.json.
        "step*_solutions.json",
        "question_with_images.json",
    )
    return Benchmark(
        partial(usmle, step=step),
        "usmle_self_assessment",
        "medalpaca/medical_meadow_usmle_self_assessment",
        patterns,
    )


STEP_1 = _benchmark(1)
STEP_2 = _benchmark(2)
STEP_3 = _benchmark(3)
