"""Parts joined into datasets, which datasets.load_from_disk reads."""

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, disable_progress_bars

from sm70lib.corpus.examples import features_of
from sm70lib.corpus.parts import batches, folder_of, writer
from sm70lib.corpus.selection import HELD
from sm70lib.steps import steps

disable_progress_bars()  # datasets would draw one for each empty dataset that start_dataset saves


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
        kind: train or preferences.
        names: the sources, in the order of their rows.
        targets: the folder of the dataset, and of a second one for the rows at `back`.
        back: places of rows (from 0, over all sources) that go to the second dataset.
        repeats: how often the first dataset has the rows of single sources; else once.
        held: sources whose documents that are held back end the second dataset.
    """
    features = features_of(kind, None)
    paths = [start_dataset(folder / target, features) for target in targets]
    first = 0
    with ExitStack() as stack:
        outputs = [stack.enter_context(writer(path, features)) for path in paths]
        for name in names:
            for batch in batches(folder_of(folder, kind, name)):
                places = np.arange(first, first + len(batch))
                kept = np.isin(places, back, invert=True)
                first += len(batch)
                for _ in range((repeats or {}).get(name, 1)):
                    outputs[0].write_batch(batch.filter(pa.array(kept)))
                if not kept.all():
                    outputs[1].write_batch(batch.filter(pa.array(~kept)))
        for name in held:
            for batch in batches(folder_of(folder, HELD, name)):
                outputs[1].write_batch(batch)


def start_dataset(folder: Path, features: Features) -> Path:
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
