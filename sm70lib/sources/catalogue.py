"""Training sources: the table sources.csv, and the rows of each source."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sm70lib.parameters import own
from sm70lib.parameters.tables import lines
from sm70lib.sources.alignment import answered, refused
from sm70lib.sources.exams import medmcqa_of, pubmedqa_of
from sm70lib.sources.hub import PARQUET, find, own_file, shown
from sm70lib.sources.layouts import Defect, Row, answer_of, pair_of, reply_of, row_of, text_of
from sm70lib.sources.own import own_of
from sm70lib.sources.problems import shaped
from sm70lib.sources.records import records
from sm70lib.study.params import StudyError

Shape = Callable[[dict], dict | str]
SHAPES: dict[str, Shape] = {
    "row": row_of,
    "medmcqa": medmcqa_of,
    "pubmedqa": pubmedqa_of,
    "text": text_of,
    "pair": pair_of,
    "pair_answered": answered,
    "pair_refused": refused,
    "answer": answer_of,
    "reply": reply_of,
    "talk": own_of,
}
# Shapes whose rows may lack both instruction and input
SELF_CHECKED = (text_of, answer_of, reply_of, own_of)
Unfit = Callable[[dict], str]
# The files of a source for which sources.csv names none.
USUAL_FILES = ["{name}.json", "PARQUET", "*.json", "*.jsonl"]


@dataclass(frozen=True)
class Source:
    """A line of sources.csv, or a file of the user's own.

    Rows and licences are those that the source's publishers state: MedAlpaca (arXiv 2304.08247),
    hub cards and the authors.

    Attributes:
        name: what tables call it.
        what: what it holds.
        licence: its licence.
        rows: their number when the source is whole; None if it is not known.
        bytes: the size of its file; None if it is not known.
        hub: its repository on the hub; "" for none.
        folder: the folder of its files below `data_root`.
        shape: turns a record into a row, or says why it cannot be used.
        files: globs below `folder`. The first one that matches any file is used, so both the
            authors' layout and the hub's are read.
        by_hand: where to get its files if it has no repository on the hub; "" otherwise.
    """

    name: str
    what: str
    licence: str
    rows: int | None
    bytes: int | None
    hub: str
    folder: str
    shape: Shape
    files: tuple[str, ...]
    by_hand: str


def _sources() -> dict[str, Source]:
    return {line["name"]: _source(line) for line in lines("sources/sources.csv")}


def _source(line: dict[str, str]) -> Source:
    read: dict[str, Any] = {
        "rows": _number(line["rows"]),
        "bytes": _number(line["bytes"]),
        "shape": _shape(line),
        "files": _patterns(line),
    }
    return Source(**line | read)


def _shape(line: dict[str, str]) -> Shape:
    if line["shape"] not in SHAPES:
        raise StudyError(
            f"sources/sources.csv, line {line['name']}: shape is {line['shape']!r}; choose from "
            f"{', '.join(SHAPES)}."
        )
    return SHAPES[line["shape"]]


def _number(text: str) -> int | None:
    return int(text) if text else None


def _patterns(line: dict[str, str]) -> tuple[str, ...]:
    patterns: list[str] = []
    for pattern in line["files"].split() or USUAL_FILES:
        patterns += PARQUET if pattern == "PARQUET" else [pattern]
    return tuple(pattern.replace("{name}", line["name"]) for pattern in patterns)


SOURCES = _sources()


def about(name: str) -> Source:
    """The source of that name, or the one that a path of the user's own names.

    Raises:
        StudyError: there is no such source.
    """
    if own.is_file(name):
        return _own(name)
    if name not in SOURCES:
        raise StudyError(
            f"data_sources: there is no source {name!r}; choose from {', '.join(SOURCES)}, or give "
            "the path of a file."
        )
    return SOURCES[name]


def _own(name: str) -> Source:
    path = own.place(name)
    return Source(
        name=own.title(name),
        what="own file",
        licence="not stated",
        rows=None,
        bytes=path.stat().st_size if path.is_file() else None,
        hub="",
        folder="",
        shape=own_of,
        files=(name,),
        by_hand="",
    )


def files(name: str, root: Path) -> list[Path]:
    """The files of a source, sorted: below a data folder, or the user's own file.

    Raises:
        StudyError: there is no such source, or it has no file there.
    """
    source = about(name)
    if own.is_file(name):
        return [own_file(name)]
    paths = find(root, source.folder, source.hub, source.files)
    if not paths:
        raise StudyError(
            f"data_sources: no file {source.files[0]} of {name} in {Path(root) / source.folder}; "
            "params/data.md says where to get it, or take it out of data_sources."
        )
    return paths


def read(
    name: str,
    root: Path,
    defects: list[Defect] | None = None,
    limit: int | None = None,
    seed: int = 0,
    unfit: Unfit = lambda fields: "",
    only: Path | None = None,
) -> Iterator[Row]:
    """Reads the usable rows of a source, in file order.

    Args:
        name: a key of SOURCES, or the path of a file of the user's own.
        root: the study's data folder.
        defects: a list to which unusable rows are appended.
        limit: how many rows to draw at random; None for all. They stay in file order.
        seed: of the draw.
        unfit: says why the fields of a readable row cannot be used for what is read here; "" if
            they can.
        only: the one of its files to read, which may have no usable row; None for all.

    Raises:
        StudyError: a file is missing or cannot be read, or the source has no usable row. Without a
            `defects` list, also at the first unusable row.
    """
    rows = _rows(name, Path(root), unfit, defects, only)
    if limit is None:
        return rows
    usable = sum(1 for _ in _rows(name, Path(root), unfit, []))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = set(rng.choice(usable, min(limit, usable), replace=False).tolist())
    return (row for place, row in enumerate(rows) if place in drawn)


def _rows(
    name: str,
    root: Path,
    unfit: Unfit,
    defects: list[Defect] | None,
    only: Path | None = None,
) -> Iterator[Row]:
    source = about(name)
    usable = 0
    left_out: Counter[str] = Counter()
    for path in [only] if only else files(name, root):
        file = shown(path, root)
        for number, record in records(path):
            fields = _fields(source.shape, record, unfit)
            if isinstance(fields, dict):
                usable += 1
                yield _row(source.name, number, file, fields)
                continue
            reason = fields
            if defects is None:
                raise StudyError(f"{file}, row {number}: {reason}; mend or remove the row.")
            defects.append(Defect(source.name, file, number, reason))
            left_out[reason] += 1
    if not usable and not only:
        why = ", ".join(f"{reason} ({count})" for reason, count in left_out.most_common(2))
        raise StudyError(
            f"{path}: no row of {source.name} can be used: {why or 'it has none'}; get the file "
            f"again, or take {source.name} out of the study."
        )


def _fields(shape: Shape, record: Any, unfit: Unfit) -> dict | str:
    """The fields of a row, or the reason (str) why the record gives none."""
    fields = shaped(shape, record)
    if isinstance(fields, str):
        return fields
    if shape not in SELF_CHECKED and not fields["instruction"] + fields["input"]:
        return "empty instruction and input"
    return unfit(fields) or fields


def _row(name: str, number: int, file: str, fields: dict) -> Row:
    return Row(
        source=name,
        row=number,
        instruction=fields["instruction"],
        input=fields["input"],
        output=fields["output"],
        file=file,
        rejected=fields.get("rejected", ""),
        turns=fields.get("turns", ()),
    )
