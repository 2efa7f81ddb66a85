"""Which rows of a source a study reads: parts, rows that leak, and documents that are held back."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from sm70lib.benchmarks import Item
from sm70lib.corpus.overlap import Overlap
from sm70lib.corpus.words import words
from sm70lib.parameters import own
from sm70lib.sources import Defect, Row, wordings
from sm70lib.study.params import StudyError

HELD = "held"  # the kind of a part that has the rows of documents held back
BATCH = 1000  # rows that are compared with the benchmarks at one time

Read = Callable[..., Iterator[Row]]
Test = Callable[[Row], bool]


def limit(p, name: str) -> int | None:
    """How many rows a study draws of a source: its entry in `data_caps`, else `data_limit`."""
    return p.data_caps.get(name, p.data_limit)


def rows(
    p, name: str, kind: str, read: Read, items: list[Item], defects: list[Defect]
) -> Iterator[Row]:
    """The rows of a source that a part of the training set is made from, in file order.

    With `data_parts`, `data_leaks` or `data_holdout_documents`, `data_caps` and `data_limit` draw
    from the rows that these leave. They do not shorten the documents that are held back.

    Args:
        p: the parameters of the study.
        name: the source.
        kind: train, text or preferences; or HELD, for the documents that are held back.
        read: `sources.read` of that source, which takes `defects`, `limit` and `seed`.
        items: the benchmark items that the study asks.
        defects: a list to which unusable rows are appended.

    Raises:
        StudyError: as `sources.read`; or there are too few documents, or no row is left.
    """
    tests = _tests(p, name, kind, read) if kind in ("train", HELD) else []
    benchmark = p.data_leaks.get(name) if kind == "train" else None
    if not tests and benchmark is None:
        return read(defects, limit(p, name), p.seed)
    places = _places(read([]), tests, None if benchmark is None else _index(items, benchmark))
    if not len(places):
        raise StudyError(
            f"data_parts, data_leaks and data_holdout_documents leave no row of {name} for {kind}; "
            "change one of them, or take the source out."
        )
    count = len(places) if kind == HELD else min(limit(p, name) or len(places), len(places))
    rng = np.random.default_rng([p.seed, zlib.crc32(name.encode())])
    drawn = set(rng.choice(places, count, replace=False).tolist())
    return (row for place, row in enumerate(read(defects)) if place in drawn)


def _tests(p, name: str, kind: str, read: Read) -> list[Test]:
    """What a row has to fulfil, besides holding a benchmark item."""
    tests: list[Test] = []
    if name in p.data_holdout_documents:
        back = held_back(name, read, p.data_holdout_documents[name])
        tests.append(lambda row: (row.file in back) == (kind == HELD))
    if name in p.data_parts and kind == "train":
        number, of = map(int, p.data_parts[name].split("/"))
        tests.append(lambda row: part_of(row, of) == number)
    return tests


def part_of(row: Row, of: int) -> int:
    """The part, from 1 to `of`, that a row belongs to.

    It follows from the words of its question, so that copies of a question share a part, wherever
    they stand.
    """
    question = wordings.unwrap(row.input or row.instruction)[0]
    digest = hashlib.blake2b(" ".join(words(question)).encode(errors="replace"), digest_size=8)
    return int.from_bytes(digest.digest()) % of + 1


def held_back(name: str, read: Read, count: int) -> set[str]:
    """The documents of a source that are held back: the same ones in every study that asks so.

    Args:
        name: the source.
        read: `sources.read` of that source.
        count: how many documents.

    Returns:
        Their files, below the data folder.

    Raises:
        StudyError: the source has no more documents than that.
    """
    files = dict.fromkeys(row.file for row in read([]))
    if len(files) <= count:
        raise StudyError(
            f"data_holdout_documents: {count} documents cannot be held back of {name}, which has "
            f"{len(files)} with rows; give a lower number."
        )
    return set(sorted(files, key=lambda file: hashlib.sha256(file.encode()).digest())[:count])


def _index(items: list[Item], benchmark: str) -> Overlap:
    """The index of one benchmark alone, by its name or, of a user's own exam, by its path.

    How much a word weighs depends on all texts of an index, and two studies must draw the same rows
    whatever else they ask.
    """
    return Overlap([item for item in items if item.benchmark == own.title(benchmark)])


def _places(read: Iterator[Row], tests: list[Test], index: Overlap | None) -> np.ndarray:
    """The places (from 0) of the rows that fulfil all tests and hold an item of the index."""
    places: list[int] = []
    start = 0
    while batch := list(islice(read, BATCH)):
        wanted = [all(test(row) for test in tests) for row in batch]
        if index is not None:
            holding = _holding(batch, index)
            wanted = [fit and (row.file, row.row) in holding for fit, row in zip(wanted, batch)]
        places += [start + number for number, fit in enumerate(wanted) if fit]
        start += len(batch)
    return np.array(places, int)


def _holding(batch: list[Row], index: Overlap) -> set[tuple[str, int]]:
    """File and number of the rows that hold a question of the index."""
    hits = [hit for hit in index.find(batch) if hit["field"] == "question"]
    return {(hit["file"], hit["row"]) for hit in hits}
