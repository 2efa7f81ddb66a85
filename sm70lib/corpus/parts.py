"""The part of a training set that comes from one source or one file.

A part is a folder: `rows.arrow` has the encoded rows, `lengths.npy` their lengths, `seen.npy` the
digests of the texts, and `found.json` the findings. `found.json` is written last.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Features

from sm70lib import sources
from sm70lib.corpus import selection
from sm70lib.corpus.audit import Checks
from sm70lib.corpus.examples import ENCODERS, LENGTHS, encoded, features_of
from sm70lib.corpus.findings import Findings
from sm70lib.corpus.selection import HELD
from sm70lib.corpus.templates import unfit
from sm70lib.parameters import own
from sm70lib.sources import Defect, Row
from sm70lib.steps import steps
from sm70lib.study.files import holds, record

Note = Callable[[Iterator[Row], Path], Iterator[Row]]
PLACES = "places.json"  # file and number of every row of a part that is held back


@dataclass(frozen=True)
class Part:
    """What a part is made of, and where it goes.

    Attributes:
        kind: a key of ENCODERS: how its rows are encoded.
        name: its source.
        folder: its folder.
        only: the one file of the source that it is made of; None for all.
    """

    kind: str
    name: str
    folder: Path
    only: Path | None = None

    def files(self, root: Path) -> dict[str, Path]:
        """Its files by what tables call them; `root` is the data folder of the study."""
        paths = [self.only] if self.only else sources.files(self.name, root)
        return {sources.shown(path, root): path for path in paths}


@dataclass(frozen=True)
class Maker:
    """What parts are made with.

    Attributes:
        root: the data folder of the study.
        checks: the checks of the audit.
        tokenizer: the tokenizer of the base.
        questions: digest of the benchmark items.
        bar: the progress bar, which counts characters.
        ahead: whether a thread encodes rows while the next ones are audited.
    """

    root: Path
    checks: Checks
    tokenizer: Any
    questions: str
    bar: Any
    ahead: bool = True


def folder_of(folder: Path, kind: str, name: str) -> Path:
    """The folder of a part; `kind` is train, text or preferences, or held back."""
    return folder / "parts" / f"{kind}-{own.title(name)}"


def finished(part: Part, root: Path, questions: str) -> bool:
    """Whether a part is complete, and was made from the files and benchmark items of today.

    Args:
        part: the part.
        root: the data folder.
        questions: the digest of the benchmark items.
    """
    try:
        found = json.loads((part.folder / "found.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    recorded = found["files"] if found["questions"] == questions else {}
    files = part.files(root)
    if recorded.keys() != files.keys():
        return False
    return all(holds(files[file], recorded[file]) for file in recorded)


def write(p, part: Part, maker: Maker, note: Note | None = None) -> None:
    """Audits and encodes a part of a study; an older one in its folder is removed.

    Args:
        p: the study's parameters.
        part: what is read, and the folder that it is written to.
        maker: the checks, the tokenizer and the data folder.
        note: gets the rows that no check drops and the folder, and may write there what it sees.
    """
    shutil.rmtree(part.folder, ignore_errors=True)
    part.folder.mkdir(parents=True)
    checks, kind = maker.checks, part.kind
    found = Findings()
    lengths: list[np.ndarray] = [np.zeros((0, len(LENGTHS)), np.int32)]
    seen_before = len(checks.seen)
    files = {file: record(path) for file, path in part.files(maker.root).items()}
    fits = partial(unfit, kind, p.data_template)
    read = partial(sources.read, part.name, maker.root, unfit=fits, only=part.only)
    rows = selection.rows(p, part.name, kind, read, checks.items, found.defects)
    places: list[tuple[str, int]] = []
    features = features_of(kind, maker.tokenizer)
    encoder = ENCODERS[kind]
    encode = partial(encoder, p=p, tokenizer=maker.tokenizer)
    with writer(part.folder / "rows.arrow", features) as file:
        kept = _placed(checks.screen(_counted(rows, maker.bar), found), places)
        kept = note(kept, part.folder) if note else kept
        for batch, sizes in encoded(kept, encode, features, found, maker.ahead):
            file.write_batch(batch)
            lengths.append(sizes)
    seen = np.fromiter(islice(checks.seen, seen_before, None), np.uint64)
    np.save(part.folder / "lengths.npy", np.concatenate(lengths))
    np.save(part.folder / "seen.npy", seen)
    if kind == HELD:
        unusable = {(defect.file, defect.row) for defect in found.defects if defect.dropped}
        usable = [place for place in places if place not in unusable]
        steps.write_json(part.folder / PLACES, usable)
    _write_findings(part.folder, found, files, maker.questions)


def _placed(rows: Iterable[Row], places: list[tuple[str, int]]) -> Iterator[Row]:
    """The rows; `places` gets the file and number of each."""
    for row in rows:
        places.append((row.file, row.row))
        yield row


def _counted(rows: Iterable[Row], bar) -> Iterator[Row]:
    """The rows; their characters move the bar.

    These are nearly the bytes of an uncompressed file.
    """
    for row in rows:
        bar.update(sum(map(len, (row.instruction, row.input, row.output, row.rejected))))
        yield row


def writer(path: Path, features: Features) -> pa.ipc.RecordBatchStreamWriter:
    """Writes Arrow batches to a file."""
    return pa.ipc.new_stream(path.as_posix(), features.arrow_schema)


def _write_findings(part: Path, found: Findings, files: dict, questions: str) -> None:
    steps.write_json(
        part / "found.json",
        {
            "files": files,
            "questions": questions,
            "rows": found.rows,
            "hits": found.hits,
            "labels": found.labels.tolist(),
            "defects": [asdict(defect) for defect in found.defects],
            "examples": found.examples,
        },
    )


def read_findings(part: Path) -> Findings:
    """The findings in a source, from its part."""
    saved = json.loads((part / "found.json").read_text())
    return Findings(
        saved["rows"],
        [Defect(**defect) for defect in saved["defects"]],
        saved["hits"],
        np.array(saved["labels"]),
        [tuple(example) for example in saved["examples"]],
    )


def read_lengths(part: Path) -> pd.DataFrame:
    """One line per row of a part: the columns LENGTHS, in tokens."""
    return pd.DataFrame(np.load(part / "lengths.npy"), columns=LENGTHS)


def read_places(folder: Path, name: str) -> list[tuple[str, int]]:
    """File and number of each row of a source that is held back with its document."""
    return json.loads((folder_of(folder, HELD, name) / PLACES).read_text())


def read_seen(part: Path) -> list[int]:
    """Digests of the texts in a part."""
    return np.load(part / "seen.npy").tolist()


def batches(part: Path) -> Iterator[pa.RecordBatch]:
    """The encoded rows of a part."""
    with pa.OSFile(str(part / "rows.arrow")) as file:
        yield from pa.ipc.open_stream(file)
