"""Records from files, one by one: JSON arrays and lines, Parquet, CSV, and MedQuAD's XML."""

import codecs
import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow
import pyarrow.parquet

from sm70lib.study.params import StudyError

CHUNK = 2**20  # bytes read at a time
LONGEST = 2**26  # characters; if a record is longer than this, its file is taken to be broken
BOM_AND_SPACE = b"\xef\xbb\xbf \t\r\n"
Content = TypeVar("Content", list, dict)


def records(path: Path) -> Iterator[tuple[int, Any]]:
    """Number (from 0) and content of each record of a file, in little memory.

    Args:
        path: a .parquet, .csv, .json, .jsonl or .xml file. A .json file may hold an array or lines.

    Returns:
        An iterator. A record that cannot be read is None.

    Raises:
        StudyError: nothing can be read after some record, because the file ends or is broken
            there. The error has the record's number.
    """
    with open_bytes(path) as file:
        start = file.read(64).lstrip(BOM_AND_SPACE)
    if start.startswith(b"version https://git-lfs"):
        raise StudyError(
            f"{path} is a pointer of Git LFS, not the file; run git lfs pull where it is from."
        )
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix == ".csv":
        return _csv(path)
    if path.suffix == ".xml":
        return _documents(path)
    return _array(path) if start[:1] == b"[" else _lines(path)


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    with open_bytes(path) as file:
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1000):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as damage:
            raise _broken(path, f"is not readable Parquet after row {number}", damage) from None


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
        yield number, {"question": pair.findtext("Question"), "answer": pair.findtext("Answer")}


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    rows = table(path)
    names = next(rows, [])
    for number, cells in enumerate(rows):
        whole = len(cells) == len(names)
        yield number, dict(zip(names, cells)) if whole else None


def table(path: Path) -> Iterator[list[str]]:
    """Rows of a CSV file, including the first; raises StudyError where the file is broken."""
    # newline="": fields contain line breaks, even U+0085, that only the csv module may interpret
    with io.TextIOWrapper(open_bytes(path), "utf-8-sig", "surrogateescape", newline="") as file:
        rows = csv.reader(file, strict=True, delimiter=_separator(path))
        try:
            yield from rows
        except csv.Error as damage:
            raise _broken(path, f"is not readable CSV in line {rows.line_num}", damage) from None


def _separator(path: Path) -> str:
    """What separates the cells: a comma, or what a head without commas has instead (; or tab)."""
    with io.TextIOWrapper(open_bytes(path), "utf-8-sig", "surrogateescape", newline="") as file:
        head = next(csv.reader(file), [])
    others = [mark for mark in ";\t" if len(head) == 1 and mark in head[0]]
    return others[0] if others else ","


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    number = None
    with open_bytes(path) as lines:  # bytes: str.splitlines would also break at U+0085
        for number, line in enumerate(lines):
            try:
                record = _JSON.decode(line.decode("utf-8-sig", "surrogateescape"))
            except (ValueError, RecursionError) as damage:
                if number == 0 and path.suffix == ".json":
                    raise _neither(path, damage) from None
                record = None
            yield number, record
    if number is None and path.suffix == ".json":
        raise _neither(path, "it is empty")


def _array(path: Path) -> Iterator[tuple[int, Any]]:
    buffer = _Buffer(path)
    buffer.take()
    number, mark = 0, buffer.peek()
    if mark != "]":
        yield number, buffer.value(number)
        mark = buffer.peek()
    while mark == ",":
        buffer.take()
        number += 1
        yield number, buffer.value(number)
        mark = buffer.peek()
    if mark != "]":
        raise _broken(
            path, f"ends or breaks after row {number}", "a JSON array goes on with , or ends with ]"
        )


class _Buffer:
    """The part of a JSON text that is being looked at; it grows only while one value exceeds it.

    ijson 3.6 takes 0.5 to 0.7 of the time, but ends the file at a byte that is no UTF-8, a raw NUL
    or a lone \\udc80, and reads a lone \\ud800 as "?". Here each is the fault of one row.
    """

    def __init__(self, path: Path):
        self.path = path
        self.text = ""
        self.at = 0  # where the part that is still to be looked at begins
        self.chunks = codecs.iterdecode(_chunks(path), "utf-8-sig", "surrogateescape")

    def more(self) -> bool:
        """Reads about as much again as is still to be looked at; False if there is no more."""
        rest = [self.text[self.at :]]
        size = wanted = max(len(rest[0]), 1)
        while wanted > 0 and (chunk := next(self.chunks, "")):
            rest.append(chunk)
            wanted -= len(chunk)
        self.text, self.at = "".join(rest), 0
        return len(self.text) > size or len(rest) > 1

    def peek(self) -> str:
        """The next character that is not a space; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self) -> None:
        """Steps over the next character that is not a space."""
        self.peek()
        self.at += 1

    def value(self, number: int) -> Any:
        """The next value; raises StudyError if the text ends within it or is not JSON."""
        self.peek()
        while True:
            damage: object = "it ends within this row"
            try:
                value, end = _JSON.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                damage = error
            else:
                # At the end of the buffer, a number may go on in what is not read yet.
                if self._separated(end):
                    self.at = end
                    return value
            if len(self.text) - self.at > LONGEST or not self.more():
                raise _broken(self.path, f"is not readable JSON in row {number}", damage)

    def _separated(self, end: int) -> bool:
        return self.text[end : end + 1] in tuple(",] \t\r\n")


def _chunks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _broken(path: Path, what: str, damage: object) -> StudyError:
    return StudyError(f"{path} {what} ({str(damage)[:200]}); get the file again.")


def _neither(path: Path, damage: object) -> StudyError:
    return _broken(path, "holds neither a JSON array nor JSON lines", damage)


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object] | None:
    """An object; None if it has a key twice, as nothing says which of the two is meant."""
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = _unrepeated(pairs)
    if fields is None:
        keys = ", ".join(key for key, _ in pairs)
        raise ValueError(f"a key stands twice in one object: {keys[:80]}")
    return fields


# Not strict: a NUL in a text is then the fault of one row, not of the file.
_JSON = json.JSONDecoder(object_pairs_hook=_unrepeated, strict=False)


def open_bytes(path: Path) -> BinaryIO:
    """The file, opened for reading bytes; raises StudyError if it cannot be opened."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise StudyError(
            f"{path}: {error.strerror}; params/data.md says where to get it."
        ) from None


def load_json(path: Path, kind: type[Content]) -> Content:
    """The content of a JSON file; raises StudyError if it is damaged or not a `kind`."""
    with open_bytes(path) as file:
        try:
            content = json.loads(file.read().decode("utf-8-sig"), object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as damage:
            raise _broken(path, "is not readable JSON", damage) from None
    if not isinstance(content, kind):
        raise _broken(path, f"holds no {kind.__name__}", f"it is {type(content).__name__}")
    return content
