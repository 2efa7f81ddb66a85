"""Training sources (sources.csv): where each can be had, and how its rows look in every layout it comes in."""

import csv
import xml.etree.ElementTree as ElementTree
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from sm70lib.sources.hub import PARQUET, find
from sm70lib.sources.layouts import Defect, Row, pair_of, row_of, text_of
from sm70lib.sources.records import open_bytes, records, shaped
from sm70lib.study.params import StudyError


@dataclass(frozen=True)
class Source:
    """A line of sources.csv: what a source holds, its licence, rows when whole, bytes of its file (None: not known).

    `hub` is its repository there ("": none), `folder` where it lies below data_root; the first of `files` that is
    found counts, so that the authors' layout and the hub's are both read. Rows and licences as stated by MedAlpaca
    (arXiv 2304.08247), by hub cards and by the authors.
    """

    name: str
    what: str
    licence: str
    rows: int | None
    bytes: int | None
    hub: str
    folder: str
    shape: Callable[[dict], dict | str]
    files: tuple[str, ...]


def _sources() -> dict[str, Source]:
    shapes = {"row": row_of, "text": text_of, "pair": pair_of}
    with open(Path(__file__).with_name("sources.csv"), encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        patterns = line["files"].split() or ["{name}.json", "PARQUET", "*.json", "*.jsonl"]
        files = chain.from_iterable(
            PARQUET if pattern == "PARQUET" else [pattern] for pattern in patterns
        )
        line |= {
            "shape": shapes[line["shape"]],
            "files": tuple(file.replace("{name}", line["name"]) for file in files),
            **{name: int(line[name]) if line[name] else None for name in ("rows", "bytes")},
        }
    return {line["name"]: Source(**line) for line in lines}


SOURCES = _sources()


def files(name: str, root: Path) -> list[Path]:
    """The files of a source under `root`, sorted; StudyError if the source is unknown or has none there."""
    if name not in SOURCES:
        raise StudyError(
            f"data_sources: there is no source {name!r}; choose from {', '.join(SOURCES)}."
        )
    source = SOURCES[name]
    if not (found := find(root, source.folder, source.hub, source.files)):
        raise StudyError(
            f"data_sources: no file {source.files[0]} of {name} in {Path(root) / source.folder}; README "
            "(Data) says where to get it, or take it out of data_sources."
        )
    return found


def read(
    name: str,
    root: Path,
    defects: list[Defect] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Row]:
    """Usable rows of a source in file order; the others are appended to `defects`.

    With a `limit` that many are drawn by `seed`, in file order still.
    Without a `defects` list the first unusable row raises StudyError, as an unreadable file and a source
    without a usable row always do.
    """
    rows = _rows(name, Path(root), defects)
    if limit is None:
        return rows
    there = sum(1 for _ in _rows(name, Path(root), []))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = set(rng.choice(there, min(limit, there), replace=False).tolist())
    return (row for place, row in enumerate(rows) if place in drawn)


def _rows(name: str, root: Path, defects: list[Defect] | None) -> Iterator[Row]:
    usable, left_out = 0, Counter()
    for path in files(name, root):
        file = path.relative_to(root).as_posix()
        for number, record in _documents(path) if path.suffix == ".xml" else records(path):
            found = shaped(SOURCES[name].shape, record)
            if (
                isinstance(found, dict)
                and SOURCES[name].shape is not text_of
                and not (found["instruction"] + found["input"])
            ):
                found = "empty instruction and input"
            if isinstance(found, dict):
                usable += 1
                yield Row(
                    name,
                    number,
                    *(found[field] for field in ("instruction", "input", "output")),
                    file,
                    found.get("rejected", ""),
                )
            elif defects is None:
                raise StudyError(f"{file}, row {number}: {found}; mend or remove the row.")
            else:
                defects.append(Defect(name, file, number, found))
                left_out[found] += 1
    if not usable:
        why = ", ".join(f"{reason} ({count})" for reason, count in left_out.most_common(2))
        raise StudyError(
            f"{path}: no row of {name} can be used: {why or 'it has none'}; get the file "
            f"again, or take {name} out of the study."
        )


def _documents(path: Path) -> Iterator[tuple[int, dict]]:
    """Questions and answers of one of MedQuAD's documents."""
    with open_bytes(path) as file:
        try:
            pairs = ElementTree.parse(file).getroot().iter("QAPair")
        except (ElementTree.ParseError, ValueError, LookupError) as damage:
            raise StudyError(
                f"{path} is not readable XML ({damage}); get the file again."
            ) from None
    for number, pair in enumerate(pairs):
        yield number, {name: pair.findtext(name.title()) for name in ("question", "answer")}
