"""Records out of files, one by one: JSON arrays and lines, Parquet and CSV, and what is wrong with them."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from sm70lib.study.params import StudyError

CHUNK = 2**20  # bytes read at a time
LONGEST = 2**26  # characters: a record that does not end within them is taken for a broken file


def records(path: Path) -> Iterator[tuple[int, Any]]:
    """Number (from 0) and content of each record of a .parquet, .csv, .json or .jsonl file, in little memory.

    A .json file may hold an array or lines. A record that cannot be read is None. Raises StudyError, with the
    number of the record, where a file ends or breaks so that nothing after it can be read.
    """
    with open_bytes(path) as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"version https://git-lfs"):
        raise StudyError(
            f"{path} is a pointer of Git LFS, not the file; run git lfs pull where it is from."
        )
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix == ".csv":
        return _csv(path)
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
            raise _broken(path, f"is no readable Parquet after row {number}", damage) from None


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    rows = table(path)
    names = next(rows, [])
    for number, cells in enumerate(rows):
        yield number, dict(zip(names, cells)) if len(cells) == len(names) else None


def table(path: Path) -> Iterator[list[str]]:
    """Rows of a CSV file, its first one too; raises StudyError where it breaks."""
    # newline="": fields hold line breaks (U+0085 as well) that only the csv module may interpret
    with io.TextIOWrapper(open_bytes(path), "utf-8-sig", "surrogateescape", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            yield from rows
        except csv.Error as damage:
            raise _broken(path, f"is no readable CSV in line {rows.line_num}", damage) from None


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    number = None
    with open_bytes(path) as lines:  # bytes: str.splitlines would also break at U+0085
        for number, line in enumerate(lines):
            try:
                record = _JSON.decode(line.decode("utf-8-sig", "surrogateescape"))
            except (ValueError, RecursionError) as damage:
                if number == 0 and path.suffix == ".json":
                    raise _broken(
                        path, "holds neither a JSON array nor JSON lines", damage
                    ) from None
                record = None
            yield number, record
    if number is None and path.suffix == ".json":
        raise _broken(path, "holds neither a JSON array nor JSON lines", "it is empty")


def _array(path: Path) -> Iterator[tuple[int, Any]]:
    number, buffer = 0, _Buffer(path)
    buffer.take()
    if (mark := buffer.peek()) != "]":
        yield number, buffer.value(number)
    while (mark := mark if mark == "]" else buffer.peek()) == ",":
        buffer.take()
        number += 1
        yield number, buffer.value(number)
    if mark != "]":
        raise _broken(
            path, f"ends or breaks after row {number}", "a JSON array goes on with , or ends with ]"
        )


class _Buffer:
    """The part of a JSON text that is being looked at; it grows only while one value does not end in it."""

    def __init__(self, path: Path):
        self.path, self.text, self.at = path, "", 0
        self.chunks = codecs.iterdecode(_chunks(path), "utf-8-sig", "surrogateescape")

    def more(self) -> bool:
        """Reads as much again as is still to be looked at; whether there was anything."""
        rest = [self.text[self.at :]]
        size = wanted = max(len(rest[0]), 1)
        while wanted > 0 and (chunk := next(self.chunks, "")):
            rest.append(chunk)
            wanted -= len(chunk)
        self.text, self.at = "".join(rest), 0
        return len(self.text) > size or len(rest) > 1

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self) -> None:
        """Steps over the next character that is no space."""
        self.peek()
        self.at += 1

    def value(self, number: int) -> Any:
        """The next value; StudyError if the text ends before it does or is no JSON."""
        self.peek()
        while True:
            try:
                found, end = _JSON.raw_decode(self.text, self.at)
                if self.text[end : end + 1] in tuple(
                    ",] \t\r\n"
                ):  # else a number may go on in what is not read yet
                    self.at = end
                    return found
                damage = "it ends within this row"
            except (ValueError, RecursionError) as error:
                damage = error
            if len(self.text) - self.at > LONGEST or not self.more():
                raise _broken(self.path, f"is no readable JSON in row {number}", damage)


def _chunks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _broken(path: Path, what: str, damage: object) -> StudyError:
    return StudyError(f"{path} {what} ({str(damage)[:200]}); get the file again.")


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object] | None:
    return (
        fields if len(fields := dict(pairs)) == len(pairs) else None
    )  # which of the two would be meant?


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if (fields := _unrepeated(pairs)) is None:
        raise ValueError(
            f"a key stands twice in one object: {', '.join(key for key, _ in pairs)[:80]}"
        )
    return fields


_JSON = json.JSONDecoder(
    object_pairs_hook=_unrepeated, strict=False
)  # a raw NUL is then one row's fault


def open_bytes(path: Path) -> BinaryIO:
    """The file, opened for reading bytes; raises StudyError."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}; README (Data) says where to get it.") from None


def load_json(path: Path, kind: type) -> list | dict:
    """The list or dict (`kind`) in a JSON file; StudyError if it is damaged or another thing."""
    with open_bytes(path) as file:
        try:
            content = json.loads(file.read().decode("utf-8-sig"), object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as damage:
            raise _broken(path, "is no readable JSON", damage) from None
    if not isinstance(content, kind):
        raise _broken(path, f"holds no {kind.__name__}", f"it is {type(content).__name__}")
    return content


def problem(fields: object, *names: str) -> str | None:
    """Why an object's text fields cannot be used, or None; the last one named must not be empty."""
    for name in names:
        if not isinstance(fields, dict):
            return "no readable record, or a key stands twice in it"
        if not isinstance(text := fields.get(name), str):
            return f"no text under {name}"
        if not text.isascii() and text.encode(errors="replace").decode() != text or "\0" in text:
            return f"{name} holds a NUL, half a surrogate pair or a byte that is no UTF-8"
    return None if fields[names[-1]].strip() else f"empty {names[-1]}"


def shaped(shape: Callable[[dict], Any], record: Any) -> Any:
    """`shape(record)`, or the reason (str) why this record does not have the layout that `shape` expects."""
    try:
        return shape(record)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return "no record of a known layout" if isinstance(record, dict) else problem(record, "")
