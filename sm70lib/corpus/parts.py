"""The part of a training set that comes from one source, and how parts are joined.

A part is a folder: `rows.arrow` has the encoded rows, `lengths.npy` their lengths, `seen.npy` the
digests of the texts, and `found.json` the findings. `found.json` is written last.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, disable_progress_bars

from sm70lib import sources
from sm70lib.corpus import selection
from sm70lib.corpus.audit import Checks
from sm70lib.corpus.examples import KINDS, LENGTHS, encoded
from sm70lib.corpus.findings import Findings
from sm70lib.corpus.selection import HELD
from sm70lib.corpus.templates import unfit
from sm70lib.parameters import own
from sm70lib.sources import Defect, Row
from sm70lib.steps import steps
from sm70lib.study.files import holds, record

PLACES = "places.json"  # file and number of every row of a part that is held back

disable_progress_bars()  # datasets would draw one for each empty dataset that _start_dataset saves


def folder_of(folder: Path, kind: str, name: str) -> Path:
    """The folder of a part; `kind` is train, text or preferences, or held back."""
    return folder / "parts" / f"{kind}-{own.title(name)}"


def finished(part: Path, name: str, root: Path, questions: str) -> bool:
    """Whether a part is complete and still valid.

    It is valid as long as the files of the source and the benchmark items (their digest is
    `questions`) are the same.
    """
    try:
        found = json.loads((part / "found.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    recorded = found["files"] if found["questions"] == questions else {}
    files = _files(name, root)
    if recorded.keys() != files.keys():
        return False
    return all(holds(files[file], recorded[file]) for file in recorded)


def _files(name: str, root: Path) -> dict[str, Path]:
    """The files of a source by what tables call them."""
    return {sources.shown(path, root): path for path in sources.files(name, root)}


def write(
    p, name: str, kind: str, root: Path, checks: Checks, tokenizer, part: Path, bar, questions: str
) -> None:
    """Audits and encodes a source into the folder `part`.

    Args:
        p: the parameters of the study.
        name: the source.
        kind: a key of KINDS: how its rows are encoded.
        root: the data folder of the study.
        checks: the checks of the audit, which have seen the sources before this one.
        tokenizer: the tokenizer of the base.
        part: the folder to write; an older one is removed.
        bar: the progress bar, which counts characters.
        questions: digest of the benchmark items.
    """
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    found = Findings()
    lengths: list[np.ndarray] = [np.zeros((0, len(LENGTHS)), np.int32)]
    seen_before = len(checks.seen)
    files = {file: record(path) for file, path in _files(name, root).items()}
    read = partial(sources.read, name, root, unfit=partial(unfit, kind, p.data_template))
    rows = selection.rows(p, name, kind, read, checks.index, found.defects)
    places: list[tuple[str, int]] = []
    features, encoder = KINDS[kind]
    encode = partial(encoder, p=p, tokenizer=tokenizer)
    with _writer(part / "rows.arrow", features) as file:
        kept = _placed(checks.screen(_counted(rows, bar), found), places)
        for batch, sizes in encoded(kept, encode, features, found):
            file.write_batch(batch)
            lengths.append(sizes)
    np.save(part / "lengths.npy", np.concatenate(lengths))
    np.save(part / "seen.npy", np.fromiter(islice(checks.seen, seen_before, None), np.uint64))
    if kind == HELD:
        unusable = {(defect.file, defect.row) for defect in found.defects if defect.dropped}
        steps.write_json(part / PLACES, [place for place in places if place not in unusable])
    _write_findings(part, found, files, questions)


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


def _writer(path: Path, features: Features) -> pa.ipc.RecordBatchStreamWriter:
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


def join(
    folder: Path,
    kind: str,
    names: list[str],
    targets: list[str],
    back: np.ndarray,
    repeats: dict[str, int] | None = None,
    held: Iterable[str] = (),
) -> None:
    """Joins the parts of a kind into one or two datasets.

    Parts are read and not mapped into memory, because 3 GB of mapped pages would count as memory.

    Args:
        folder: where the parts are, and where the datasets go.
        kind: train, text or preferences.
        names: the sources, in the order of their rows.
        targets: the folder of the dataset, and of a second one for the rows at `back`.
        back: places of rows (from 0, over all sources) that go to the second dataset.
        repeats: how often the first dataset has the rows of single sources; else once.
        held: sources whose documents that are held back end the second dataset.
    """
    features = KINDS[kind][0]
    paths = [_start_dataset(folder / target, features) for target in targets]
    first = 0
    with ExitStack() as stack:
        outputs = [stack.enter_context(_writer(path, features)) for path in paths]
        for name in names:
            for batch in _batches(folder_of(folder, kind, name)):
                places = np.arange(first, first + len(batch))
                kept = np.isin(places, back, invert=True)
                first += len(batch)
                for _ in range((repeats or {}).get(name, 1)):
                    outputs[0].write_batch(batch.filter(pa.array(kept)))
                if not kept.all():
                    outputs[1].write_batch(batch.filter(pa.array(~kept)))
        for name in held:
            for batch in _batches(folder_of(folder, HELD, name)):
                outputs[1].write_batch(batch)


def _batches(part: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(part / "rows.arrow")) as file:
        yield from pa.ipc.open_stream(file)


def _start_dataset(folder: Path, features: Features) -> Path:
    """Writes a dataset without rows, as datasets.load_from_disk reads it.

    Returns:
        Its file of rows, to write over.
    """
    shutil.rmtree(folder, ignore_errors=True)
    info = DatasetInfo(features=features)
    empty = Dataset(features.arrow_schema.empty_table(), info, fingerprint=folder.name)
    empty.save_to_disk(folder, num_shards=1)
    # The digest of the folder is part of the key of 03, so the JSON keeps the form that it had.
    info.write_to_directory(folder)
    state = folder / "state.json"
    steps.write_json(state, json.loads(state.read_text()))
    [rows] = folder.glob("*.arrow")
    return rows
