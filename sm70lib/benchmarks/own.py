"""An exam of the user's own, named by its path: multiple choice in the field's usual layouts.

Files give the right answer as a letter, as a number or as the option's text, and numbers count from
0 or from 1. A single row often does not say which ("2" of four options), so all rows decide
together: one reading must fit every row, and if several do, they must mean the same.
"""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NamedTuple

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import LETTERS, TOO_MANY, Found, flat, objects
from sm70lib.parameters import own
from sm70lib.sources.problems import undecodable
from sm70lib.study.params import StudyError

FORM = "own"  # what protocols call an exam of the user's own
QUESTIONS = ("question", "stem", "query", "prompt", "input")
CONTEXTS = ("context", "passage", "abstract", "vignette")
# A row may give its answer twice, as MedQA's do: by label and by text.
LABELS = ("answer_idx", "answer_index", "answer_key", "answerkey", "cop", "correct_option", "label")
TEXTS = ("answer", "correct_answer", "correct", "gold", "target")
EXPLANATIONS = ("explanation", "exp", "rationale")
SUBJECTS = ("subject", "subject_name", "category", "topic")
COLUMNS = (*("option_{}", "choice_{}", "op{}", "{}"), *("option{}", "option_{}", "choice{}"))
MARKS = " .:()[]"  # that may stand around a letter, as in "(B)" and "B."
BY_KEY = "the options' own labels"


class Row(NamedTuple):
    """A record: its number and fields, and its options.

    Attributes:
        number: its position in the file, from 0.
        fields: its fields.
        keys: the labels that the file gives the options.
        options: the options, without empty ones.
        places: where each of them stands among all, empty ones included; answers count these.
    """

    number: int
    fields: dict
    keys: list[str]
    options: list[Any]
    places: list[int]


def exam(path: Path) -> Found:
    """The questions of a file.

    Raises:
        StudyError: no reading of the answers fits all rows, or several do that differ; or answers
            name an option that no row has.
    """
    _require_option(path)
    readings = {names: _reading(path, names) for names in (LABELS, TEXTS)}
    for row in _rows(path):
        golds = set()
        for names, reading in readings.items():
            if reading and _first(row.fields, names) is not None:
                golds.add(_positions(row, names).get(reading))
        fields = {
            "id": str(row.fields.get("id") or f"{row.number:05}"),
            "question": _question(row.fields),
            "options": dict(zip(LETTERS, row.options)),
            "gold": _letter(row, golds),
        }
        known = {"explanation": EXPLANATIONS, "subject": SUBJECTS}
        said = {name: _first(row.fields, names) for name, names in known.items()}
        texts = {name: text for name, text in said.items() if isinstance(text, str)}
        yield row.number, {}, fields | texts


def _require_option(path: Path) -> None:
    """Raises StudyError if answers of several rows are a letter for which no row has an option.

    A column has another name then, and every question would be asked without its option. One such
    answer alone is a slip, and its row is left out.
    """
    most, said = 0, Counter[str]()
    for row in _rows(path):
        answers = [str(_first(row.fields, names)).strip(MARKS).upper() for names in (LABELS, TEXTS)]
        most = max(most, len(row.options))
        if not {*map(str.upper, row.keys)} & {*answers}:
            said.update({answer for answer in answers if len(answer) == 1 and answer in LETTERS})
    lacking = [letter for letter in LETTERS[most:] if said[letter] > 1]
    if most and lacking:
        raise StudyError(
            f"{path}: the answer is {lacking[0]} in {said[lacking[0]]} rows, and no row has an "
            f"option {lacking[0]} (at most {most} options); see what its column is called"
        )


def _letter(row: Row, golds: set[int | None]) -> str | None:
    """The letter of the one right option; None if there is none, or two disagree."""
    if len(row.options) > len(LETTERS):
        return TOO_MANY
    place = golds.pop() if len(golds) == 1 else None
    return None if place is None else LETTERS[place]


def _rows(path: Path) -> Iterator[Row]:
    for number, record in objects(path):
        fields = flat(record)
        if any(map(undecodable, fields.values())):
            raise StudyError(
                f"{path} is no UTF-8 (row {number} has a byte of another encoding); save it as "
                "UTF-8, else its questions would be left out one by one"
            )
        options = _options(fields)
        there = {key: text for key, text in options.items() if text not in (None, "")}
        places = [place for place, key in enumerate(options) if key in there]
        yield Row(number, fields, [*there], [*there.values()], places)


def _first(fields: dict, names: tuple[str, ...]) -> object:
    """The first of these fields that a record has and does not leave empty."""
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def _question(fields: dict) -> object:
    """The question under the text that it is about, if there is one."""
    question, context = _first(fields, QUESTIONS), _first(fields, CONTEXTS)
    if isinstance(question, str) and isinstance(context, str):
        return f"{context}\n{question}"
    return question


def _options(fields: dict) -> dict[str, Any]:
    """Options by label, empty ones too: from a mapping, a list of texts or objects, or columns."""
    listed = _first(fields, ("options", "choices"))
    listed = _unquoted(listed) if isinstance(listed, str) else listed
    if isinstance(listed, dict) and isinstance(listed.get("text"), list):  # ARC's
        listed = dict(zip(map(str, listed.get("label", LETTERS)), listed["text"]))
    if isinstance(listed, list) and all(isinstance(option, dict) for option in listed):
        pairs = [
            (_first(option, ("key", "label", "id")), _first(option, ("value", "text")))
            for option in listed
        ]
        listed = {str(key): text for key, text in pairs}
    if isinstance(listed, list):
        listed = dict(zip(LETTERS + LETTERS.lower(), listed))
    options = listed if isinstance(listed, dict) else _columns(fields)
    return {str(key): _text(value) for key, value in options.items()}


def _unquoted(text: str) -> object:
    """The list or mapping that a cell of a table holds as JSON or as Python's text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _columns(fields: dict) -> dict:
    """Options by letter from columns that are called after letters, or numbers from 0 or 1."""
    most = len(LETTERS) + 1  # one more than an item may have, so that a row with more is noticed
    for column in COLUMNS:
        first = 0 if column.format(0) in fields else 1
        numbers = [str(number) for number in range(first, first + most)]
        for labels in (ascii_lowercase[:most], numbers):
            found = [fields.get(column.format(label)) for label in labels]
            if sum(value not in (None, "") for value in found) > 1:
                return dict(zip(ascii_uppercase, found))
    return {}


def _text(value: object) -> object:
    """An option's text; a number is one, too."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


def _positions(row: Row, names: tuple[str, ...]) -> dict[str, int]:
    """Which option the answer names, by each reading of it that names one."""
    answer = _text(_first(row.fields, names))
    if not isinstance(answer, str):
        return {}
    said = answer.strip()
    found = {}
    if said in row.keys:
        found[BY_KEY] = row.keys.index(said)
    letter = LETTERS.find(said.strip(MARKS).upper() or "?")
    if len(said.strip(MARKS)) == 1 and letter in row.places:
        found["letters"] = row.places.index(letter)
    if said.removesuffix(".0").isdecimal():
        for reading, first in (("numbers from 0", 0), ("numbers from 1", 1)):
            place = int(said.removesuffix(".0")) - first
            found |= {reading: row.places.index(place)} if place in row.places else {}
    same = [place for place, text in enumerate(row.options) if str(text).strip() == said]
    return found | {"texts of options": same[0]} if len(same) == 1 else found


def _reading(path: Path, names: tuple[str, ...]) -> str | None:
    """The reading of the answers in one of a file's columns; None if no row has such an answer.

    Raises:
        StudyError: no reading fits all rows, or several do that differ.
    """
    fitting: set[str] = set()
    read: list[tuple[Row, dict[str, int]]] = []
    for row in _rows(path):
        positions = _positions(row, names)
        if not positions:  # no answer, or one that names no option: the row is left out
            continue
        fits = fitting & positions.keys() if read else set(positions)
        if not fits:
            raise _contradiction(path, names, read, row, positions)
        fitting = fits
        read.append((row, positions))
    if BY_KEY in fitting:
        return BY_KEY
    for row, positions in read:
        if len({positions[reading] for reading in fitting}) > 1:
            ways = " or as ".join(sorted(fitting))
            raise StudyError(
                f"{path}: all answers may be read as {ways}, and nothing says which is meant (row "
                f"{row.number}: {_first(row.fields, names)!r}); write them as letters."
            )
    return min(fitting, default=None)


def _contradiction(
    path: Path, names: tuple[str, ...], read: list[tuple[Row, dict]], row: Row, positions: dict
) -> StudyError:
    """What to say of a row whose answer cannot be read as those before it."""
    others = [one for one, before in read if before.keys().isdisjoint(positions)]
    other = (others or [read[-1][0]])[0]
    return StudyError(
        f"{path}: the answer is {_first(other.fields, names)!r} in row {other.number} and "
        f"{_first(row.fields, names)!r} in row {row.number}, and no one reading (letters, numbers "
        "from 0, numbers from 1, texts of options) fits all rows; write them as letters."
    )


def own_exam(name: str) -> Benchmark:
    """The benchmark that a path of the user's own names."""
    return Benchmark(exam, "", None, (), asked_as=FORM, ids=f"{own.title(name)}/")
