"""Training sources: what each one is, and readers that turn its upstream files into rows."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from sm70lib import steps
from sm70lib.params import StudyError


@dataclass(frozen=True, slots=True)
class Row:
    """One training row; a text-only row has neither instruction nor input. `row` counts from 0 in `file`."""

    source: str
    row: int
    instruction: str
    input: str
    output: str
    file: str


@dataclass(frozen=True, slots=True)
class Defect:
    """A finding about a row or benchmark item: which check, what, and whether it was dropped for it."""

    source: str
    file: str
    row: int
    reason: str
    check: str = "read"
    dropped: bool = True


def _meadow(path: Path) -> Iterator[tuple[int, object]]:
    yield from enumerate(load_json(path, list))


def _text(path: Path) -> Iterator[tuple[int, object]]:
    for number, fields in load_jsonl(path):
        yield number, {"instruction": "", "input": "", "output": fields.get("text")}


def _medquad(path: Path) -> Iterator[tuple[int, object]]:
    with open_bytes(path) as file:
        try:
            pairs = ElementTree.parse(file).getroot().iter("QAPair")
        except (ElementTree.ParseError, ValueError, LookupError) as damage:
            raise StudyError(f"{path} is not readable XML ({damage}); get the file again.") from None
    for number, pair in enumerate(pairs):
        question, answer = (pair.findtext(tag) or "" for tag in ("Question", "Answer"))
        yield number, {"instruction": "Answer this question truthfully", "input": " ".join(question.split()),
                       "output": answer.strip()}


@dataclass(frozen=True)
class Source:
    """What a source holds, its licence, its rows when whole (None: made here), its files and their reader.

    Rows and licences as stated by MedAlpaca (arXiv 2304.08247), its hub cards and the sets' own repositories.
    """

    what: str
    licence: str
    rows: int | None
    files: str = "{name}.json"
    reader: Callable[[Path], Iterator[tuple[int, object]]] = _meadow


SOURCES: dict[str, Source] = {
    "medical_meadow_medical_flashcards": Source("flashcards: question, answer", "cc, OpenAI terms", 33_955),
    "medical_meadow_wikidoc": Source("textbook: question, paragraph", "cc, OpenAI terms", 10_000),
    "medical_meadow_wikidoc_patient_information": Source("patient information", "OpenAI terms", 5_942),
    "medical_meadow_medqa": Source("MedQA training questions, five options", "MIT", 10_178),
    "medical_meadow_mmmlu": Source("the MMLU test split of 16 subjects (leaks)", "MIT", 3_787),
    "medical_meadow_pubmed_causal": Source("sentence, kind of causal claim", "unspecified", 2_446),
    "medical_meadow_health_advice": Source("sentence, strength of advice", "unspecified", 8_676),
    "medical_meadow_cord19": Source("abstract, title", "various", 821_007),
    "medical_meadow_mediqa": Source("consumer question, passage, summary", "CC0 1.0", 2_208),
    "medquad": Source("questions of US health sites", "CC BY 4.0", 47_441, "*/*.xml", _medquad),
    "med_safety_bench": Source("harmful requests, safe answers", "MIT, research use only", 900,
                               "datasets/train-splits-used-for-ft/med_safety/ft_safety_med_n900.json"),
    "town_questions": Source("fictional towns, the format of tuning", "this project", None),
    "encyclopaedia": Source("fictional medicine, running text", "this project", None, "{name}.jsonl", _text),
    "gazetteer": Source("fictional towns, running text", "this project", None, "{name}.jsonl", _text),
}


def root(p) -> Path:
    """The folder of a study's sources and benchmarks (`data_root`); raises StudyError if there is none."""
    path = steps.ROOT / Path(p.data_root).expanduser()
    if p.data_root == "world":
        path = steps.outputs() / p.study / "base/world"
    if not path.is_dir():
        raise StudyError(f"data_root is {p.data_root!r}, but there is no folder {path}; give one that "
                         "holds what README (Data) says, or world for what 00_base makes.")
    return path


def files(name: str, root: Path) -> list[Path]:
    """The files of a source under `root`, sorted; StudyError if the source is unknown or has none there."""
    if name not in SOURCES:
        raise StudyError(f"data_sources: there is no source {name!r}; choose from {', '.join(SOURCES)}.")
    pattern = SOURCES[name].files.format(name=name)
    if not (found := sorted((Path(root) / name).glob(pattern))):
        raise StudyError(f"data_sources: no file {pattern} of {name} in {Path(root) / name}; README (Data) "
                         "says where to get it, or take it out of data_sources.")
    return found


def read(name: str, root: Path, defects: list[Defect] | None = None,
         limit: int | None = None) -> Iterator[Row]:
    """Usable rows of a source in file order, at most `limit`; the others are appended to `defects`.

    Without a `defects` list the first unusable row raises StudyError, as an unreadable file always does.
    """
    return islice(_rows(name, Path(root), defects), limit)


def _rows(name: str, root: Path, defects: list[Defect] | None) -> Iterator[Row]:
    for path in files(name, root):
        file = path.relative_to(root).as_posix()
        for number, fields in SOURCES[name].reader(path):
            reason = problem(fields, "instruction", "input", "output")
            if not reason and not (fields["instruction"] + fields["input"] or SOURCES[name].reader is _text):
                reason = "empty instruction and input"
            if reason is None:
                yield Row(name, number, fields["instruction"], fields["input"], fields["output"], file)
            elif defects is None:
                raise StudyError(f"{file}, row {number}: {reason}; mend or remove the row.")
            else:
                defects.append(Defect(name, file, number, reason))


def problem(fields: object, *names: str) -> str | None:
    """Why an object's text fields cannot be used, or None; the last one named must not be empty."""
    for name in names:
        if not isinstance(fields, dict) or not isinstance(fields.get(name), str):
            return f"no text under {name}"
        if "\0" in fields[name] or fields[name].encode(errors="replace").decode() != fields[name]:
            return f"{name} holds a NUL or half a surrogate pair"
    return None if fields[names[-1]].strip() else f"empty {names[-1]}"


def open_bytes(path: Path) -> BinaryIO:
    """The file, opened for reading bytes; raises StudyError."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}; README (Data) says where to get it.") from None


def load_json(path: Path, kind: type) -> list | dict:
    """The list or dict (`kind`) in a JSON file; StudyError if it is damaged, or an object repeats a key."""
    with open_bytes(path) as file:
        try:
            content = json.loads(file.read().decode("utf-8-sig"), object_pairs_hook=_unrepeated)
        except (ValueError, RecursionError) as damage:
            raise StudyError(f"{path} is not readable JSON ({damage}); get the file again.") from None
    if not isinstance(content, kind):
        raise StudyError(f"{path} holds {type(content).__name__}, not {kind.__name__}; get the file again.")
    return content


def load_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """Number (from 0) and object of each line of a JSON Lines file; a line that is none gives {}."""
    with open_bytes(path) as lines:  # bytes: str.splitlines would also break at U+0085
        for number, line in enumerate(lines):
            try:
                fields = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unrepeated)
            except (ValueError, RecursionError):
                fields = {}
            yield number, fields if isinstance(fields, dict) else {}


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError(f"a key stands twice in one object: {', '.join(key for key, _ in pairs)[:80]}")
    return fields
