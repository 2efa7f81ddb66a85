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
from sm70lib.corpus.audit import Checks
from sm70lib.corpus.examples import KINDS, LENGTHS, encoded
from sm70lib.corpus.findings import Findings
from sm70lib.corpus.templates import unfit
from sm70lib.parameters import own
from sm70lib.sources import Defect, Row
from sm70lib.steps import steps
from sm70lib.study.files import holds, record

disable_progress_bars()  # datasets would draw one for each empty dataset that _start_dataset saves


def limit(p, name: str) -> int | None:
    """How many rows a study draws of a source: its entry in `data_caps`, else `data_limit`."""
    return p.data_caps.get(name, p.data_limit)


def folder_of(folder: Path, kind: str, name: str) -> Path:
    """The folder of a part; `kind` is train, text or preferences."""
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
        kind: train, text or preferences: how its rows are encoded.
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
    why = partial(unfit, kind, p.data_template)
    rows = sources.read(name, root, found.defects, limit(p, name), p.seed, why)
    features, encoder = KINDS[kind]
    encode = partial(encoder, p=p, tokenizer=tokenizer)
    with _writer(part / "rows.arrow", features) as file:
        kept = checks.screen(_counted(rows, bar), found)
        for batch, sizes in encoded(kept, encode, features, found):
            file.write_batch(batch)
            lengths.append(sizes)
    np.save(part / "lengths.npy", np.concatenate(lengths))
    np.save(part / "seen.npy", np.fromiter(islice(checks.seen, seen_before, None), np.uint64))
    _write_findings(part, found, files, questions)


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


def read_seen(part: Path) -> list[int]:
    """Digests of the texts in a part."""
    return np.load(part / "seen.npy").tolist()


def join(folder: Path, kind: str, names: list[str], targets: list[str], back: np.ndarray) -> None:
    """Joins the parts of a kind into one or two datasets.

    Parts are read and not mapped into memory, because 3 GB of mapped pages would count as memory.

    Args:
        folder: where the parts are, and where the datasets go.
        kind: train, text or preferences.
        names: the sources, in the order of their rows.
        targets: the folder of the dataset, and of a second one for the rows at `back`.
        back: places of rows (from 0, over all sources) that go to the second dataset.
    """
    features = KINDS[kind][0]
    paths = [_start_dataset(folder / target, features) for target in targets]
    first = 0
    with ExitStack() as stack:
        outputs = [stack.enter_context(_writer(path, features)) for path in paths]
        for name in names:
            rows = folder_of(folder, kind, name) / "rows.arrow"
            part = stack.enter_context(pa.OSFile(str(rows)))
            for batch in pa.ipc.open_stream(part):
                places = np.arange(first, first + len(batch))
                kept = np.isin(places, back, invert=True)
                first += len(batch)
                outputs[0].write_batch(batch.filter(pa.array(kept)))
                if not kept.all():
                    outputs[1].write_batch(batch.filter(pa.array(~kept)))


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
