"""Layouts of the benchmarks, the authors' and the hub's: from a file to what an item is made of.

A reader yields position, record, and a dict: id, question, options by label, gold (label of the right one;
None if there is none or two disagree), context if any, and what goes into the item's `meta`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sm70lib.sources.records import load_json, records, table
from sm70lib.study.params import StudyError

IMAGE = "needs a picture that is not in the file"
SIX = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
)
NINE = (
    *SIX,
    "high_school_biology",
    "nutrition",
    "virology",
)  # Meditron's (arXiv 2311.16079, table 12)
STEPS = {1: "one", 2: "two", 3: "three"}
XSTEST = ("safe", "unsafe")
Found = Iterator[tuple[int, dict, dict]]


def medqa(path: Path) -> Found:
    """MedQA: the authors' JSON Lines, GBaker's tables (its `-hf` twin too), and both of BigBIO's."""
    for number, row in _objects(path):
        options = _options(row)
        stem = (
            " ".join(filter(None, (row["sent1"], row.get("sent2"))))
            if "sent1" in row
            else row.get("question")
        )
        yield (
            number,
            row,
            {
                "id": f"{number:05}",
                "question": stem,
                "options": options,
                "gold": _gold(row, options),
                "step": row.get("meta_info"),
            },
        )


def usmle(path: Path, step: int) -> Found:
    """One step of the USMLE sample exam: MedAlpaca's JSON, the hub's tables, or Clinical Camel's one list."""
    if path.name == "step_exams.jsonl":
        return _listed(path, step)
    return (
        _solved(path)
        if path.suffix == ".json"
        else (
            (
                number,
                row,
                {
                    "id": str(number),
                    "question": row.get("question"),
                    "options": (options := _options(row)),
                    "gold": _gold(row, options),
                    "step": f"step{step}",
                },
            )
            for number, row in _objects(path)
        )
    )


def _solved(path: Path) -> Found:
    solutions = load_json(path.with_name(f"{path.stem}_solutions.json"), dict)
    images = path.with_name("question_with_images.json")
    listed = load_json(images, dict) if images.exists() else {path.stem: []}
    if path.stem not in listed:
        raise StudyError(
            f"{images}: there is no list {path.stem} of questions with pictures, only "
            f"{', '.join(listed) or 'none'}; get the file again."
        )
    pictured = listed[path.stem]
    for number, row in _objects(path):
        key = str(row.get("no"))
        yield (
            number,
            row,
            {
                "id": key,
                "question": row.get("question"),
                "options": _options(row),
                "gold": IMAGE if number in pictured else solutions.get(key),
                "step": path.stem,
            },
        )


def _listed(path: Path, step: int) -> Found:
    """Stem and options stand in one text, "(A) ... (B) ..."; a row without its step has that of the row before."""
    category = None
    for number, row in _objects(path):
        category, text = row.get("category") or category, str(row.get("text"))
        if category not in STEPS.values():
            raise StudyError(
                f"{path}, row {number}: category is {category!r}, but the steps are "
                f"{', '.join(STEPS.values())}; correct it, or get the file again."
            )
        marks = list(re.finditer(r"\(([A-J])\)", text))
        first = max((at for at, mark in enumerate(marks) if mark[1] == "A"), default=len(marks))
        ends = [mark.start() for mark in marks[first + 1 :]] + [len(text)]
        options = {
            mark[1]: text[mark.end() : end].strip() for mark, end in zip(marks[first:], ends)
        }
        letter = re.match(r"\(([A-J])\)", str(row.get("answer")))
        if category == STEPS[step]:
            stem = text[: marks[first].start()].strip() if options else ""
            yield (
                number,
                row,
                {
                    "id": f"{number:03}",
                    "question": stem,
                    "options": options,
                    "gold": letter and letter[1],
                    "step": f"step{step}",
                },
            )


def pubmedqa(path: Path) -> Found:
    """PubMedQA's 1,000: the authors' object keyed by PMID, and the tables of three publishers.

    These are qiaojin, BigBIO and openlifescienceai. Raises StudyError where nothing says which items
    are the official test, and where the list of these names others.
    """
    listed = next(
        (
            parent / "test_ground_truth.json"
            for parent in path.parents[:3]
            if (parent / "test_ground_truth.json").exists()
        ),
        None,
    )
    test = load_json(listed, dict) if listed else {}
    rows = (
        load_json(path, dict).items()
        if path.suffix == ".json"
        else (
            (str(row.get("pubid", row.get("id", f"{path.stem}/{number}"))), row)
            for number, row in _objects(path)
        )
    )
    seen = 0
    for number, (key, row) in enumerate(rows):
        if not test and (path.suffix == ".json" or "pubid" in row or not _split(path)):
            raise StudyError(
                f"{path}: nothing says which 500 are the test; put the authors' test_ground_truth.json "
                "beside it (README, Data)."
            )
        seen += key in test
        row = _flat(row) if isinstance(row, dict) else {}
        within = row.get("context") if isinstance(row.get("context"), dict) else row
        texts, human = (
            within.get("contexts", row.get("context")),
            row.get("reasoning_required_pred") or within.get("reasoning_required_pred"),
        )
        gold = row.get("final_decision", row.get("correct_answer"))
        yield (
            number,
            row,
            {
                "id": key,
                "question": row.get("question"),
                "context": "\n".join(map(str, texts)) if isinstance(texts, list) else texts,
                "options": {name: name for name in ("yes", "no", "maybe")},
                "gold": gold if test.get(key, gold) == gold else None,
                "explanation": row.get("long_answer"),
                "test": key in test if test else _split(path) == "test",
                # what a person answered who did not see the conclusion; the hub has ["y", "e", "s"]
                "human": "".join(human) if isinstance(human, list) else human,
            },
        )
    if seen < len(test):
        raise StudyError(
            f"{path} lacks {len(test) - seen} of the {len(test)} test items that {listed} "
            "names; get both files from the same place."
        )


def pubmedqa_dev(path: Path) -> Found:
    """PubMedQA's 500 labelled items outside the official test: for choosing, never for testing."""
    for number, row, found in pubmedqa(path):
        if not found.pop("test"):
            yield number, row, found


def medmcqa(path: Path) -> Found:
    """MedMCQA: the authors' JSON Lines, the hub's table, and its formatted twin."""
    first = _first_cop(path)
    for number, row in _objects(path):
        row = _flat(row)
        options = _options(row) or {
            label: row.get(f"op{letter}") for label, letter in enumerate("abcd", first)
        }
        yield (
            number,
            row,
            {
                "id": str(row.get("id")),
                "question": row.get("question"),
                "options": options,
                "gold": row.get("cop", row.get("correct_option")),
                "explanation": row.get("exp", row.get("explanation")),
                "subject": row.get("subject_name"),
            },
        )


def _first_cop(path: Path) -> int:
    """The `cop` of a first option, 0 or 1: what the file itself shows, else how its publisher counts.

    The authors count from 1 (all 1,076 explanations of dev that name a letter agree), the hub from 0
    (-1 where there is no label); others convert one form into the other. Raises StudyError for a
    file that holds both a 0 and a 4.
    """
    rows = {row.get("cop"): number for number, row in _objects(path) if type(row.get("cop")) is int}
    if {0, 4} <= rows.keys():
        raise StudyError(
            f"{path}: cop is 0 in row {rows[0]} and 4 in row {rows[4]}, but it counts "
            "either from 0 to 3 or from 1 to 4; get the file again."
        )
    if {0, 4} & rows.keys():
        return int(4 in rows)
    return int(path.suffix != ".parquet")


def mmlu(path: Path, subjects: tuple[str, ...]) -> Found:
    """MMLU: the authors' headerless CSV, cais's and lukaemon's tables, one folder for each subject."""
    subject = (
        path.stem.rpartition("_")[0]
        if path.suffix == ".csv"
        else next((part for part in path.parts[::-1] if part in NINE), "")
    )
    columns = ("question", "A", "B", "C", "D", "answer")
    rows = (
        _objects(path)
        if path.suffix != ".csv"
        else (
            (number, dict(zip(columns, cells)) if len(cells) == 6 else {})
            for number, cells in enumerate(table(path))
        )
    )
    for number, row in rows if subject in subjects else ():
        gold, options = row.get("answer", row.get("target")), _options(row)
        yield (
            number,
            {},
            {
                "id": f"{subject}/{number:04}",
                "question": row.get("question", row.get("input")),
                "options": options,
                "subject": subject,
                "gold": _letter(gold, options),
                # lost by a reader that takes the first row for a header, as Meditron's did (1,862 of 1,871)
                "swallowed": number == 0,
            },
        )


def truthfulqa(path: Path) -> Found:
    """TruthfulQA's 817: mc1 as options, mc2's labels and the category (from the table beside it) in `meta`."""
    tables = [*path.parent.glob("TruthfulQA.csv"), *path.parents[1].glob("generation/**/*.parquet")]
    categories = {
        row.get("Question", row.get("question")): row.get("Category", row.get("category"))
        for file in tables
        for _, row in _objects(file)
    }
    for number, row in _objects(path):
        one, several = (_targets(row.get(f"mc{n}_targets")) for n in (1, 2))
        right = [text for text, label in one.items() if label == 1]
        yield (
            number,
            row,
            {
                "id": f"{number:05}",
                "question": row.get("question"),
                "options": {text: text for text in one},
                "gold": right[0] if len(right) == 1 else None,
                "mc2": several,
                "category": categories.get(row.get("question")),
            },
        )


def xstest(path: Path, label: str) -> Found:
    """XSTest's requests of one label, safe or unsafe; right is what a safe and helpful model does."""
    for number, row in _objects(path):
        if row and row.get("label") not in XSTEST:
            raise StudyError(
                f"{path}, row {number}: label is {row.get('label')!r}, but prompts are "
                f"{' or '.join(XSTEST)}; correct it, or get the file again."
            )
        if not row or row["label"] == label:  # what cannot be read is counted, and may be either
            yield (
                number,
                row,
                _request(str(row.get("id")), row.get("prompt"), label == "unsafe", row.get("type")),
            )


def medsafety(path: Path) -> Found:
    """MedSafetyBench's harmful requests: files by split, generator and principle of medical ethics."""
    split, generator = path.parts[-3:-1]
    for number, row in _objects(path):
        # the files of train and test have the same names, so without the split every id stands twice
        key = f"{split}/{generator}/{path.stem[-1]}/{number:03}"
        yield number, row, _request(key, row.get("harmful_medical_request"), True, None)


def _request(key: str, text: object, refuse: bool, subject: object) -> dict:
    return {
        "id": key,
        "question": text,
        "options": {name: name for name in ("complies", "refuses")},
        "gold": "refuses" if refuse else "complies",
        "subject": subject,
    }


def _targets(targets: object) -> dict:
    """Answers and their labels, {} where one is neither 1 nor 0; the hub has a list of each."""
    if isinstance(targets, dict) and isinstance(targets.get("choices"), list):
        labels = targets.get("labels")
        whole = isinstance(labels, list) and len(labels) == len(targets["choices"])
        targets = dict(zip(targets["choices"], labels)) if whole else {}
    labelled = isinstance(targets, dict) and all(label in (0, 1) for label in targets.values())
    return targets if labelled else {}


def _options(row: dict) -> dict[str, object]:
    """Options by letter: a mapping, a list of texts or of keys with values, or a column for each."""
    found = row.get("options", row.get("choices"))
    if isinstance(found, list):
        keyed = all(isinstance(option, dict) for option in found)
        pairs = (
            [(option.get("key"), option.get("value")) for option in found]
            if keyed
            else zip("ABCDEFGHIJ", found)
        )
        found = dict(pairs)
    elif not isinstance(found, dict):
        columns = "ABCD" if "A" in row else ("ending0", "ending1", "ending2", "ending3")
        found = {letter: row[name] for letter, name in zip("ABCD", columns) if name in row}
    letters = sorted(letter for letter in found if isinstance(letter, str))
    while letters and found[letters[-1]] is None:  # the letters that a table has for longer lists
        letters.pop()
    return {letter: found[letter] for letter in letters}


def _gold(row: dict, options: dict) -> str | None:
    """The right letter by name, by number, or by the text of the answer; None where two of them disagree."""
    label, answer = row.get("answer_idx", row.get("label")), row.get("answer")
    label = _letter(label, options)
    right = [
        letter
        for letter, text in options.items()
        if text in (answer if isinstance(answer, list) else [answer])
    ]
    if label is None:
        return right[0] if len(right) == 1 else None
    return label if answer is None or label in right else None


def _letter(label: object, options: dict) -> object:
    """A label that counts the options from 0, as a letter; any other is left as it is."""
    counts = type(label) is int and 0 <= label < len(options)
    return list(options)[label] if counts else label


def _split(path: Path) -> str:
    """The split that a table's name or its folder's begins with, "" for none."""
    names = (re.match("train|validation|dev|test", name) for name in (path.stem, path.parent.name))
    return next((found[0] for found in names if found), "")


def _flat(row: dict) -> dict:
    """A row whose content may stand in `data` and whose names may be written large, with a space, or small."""
    inner = row["data"] if isinstance(row.get("data"), dict) else {}
    return {name.lower().replace(" ", "_"): value for name, value in (row | inner).items()}


def _objects(path: Path) -> Iterator[tuple[int, dict]]:
    return ((number, row if isinstance(row, dict) else {}) for number, row in records(path))
