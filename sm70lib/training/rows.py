"""The rows that a stage of training reads: drawn, mixed, held back and counted."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from datasets import Dataset, load_from_disk

from sm70lib.parameters import own
from sm70lib.parameters.stages import IN_ROUNDS, READS, STAGES, steps_of
from sm70lib.study.params import StudyError

COLUMNS = {  # that a trainer is given, by what its stage reads
    "rows": ["input_ids", "labels"],
    "text": ["input_ids"],  # TRL's collator counts every token of a row without labels
    "pairs": ["prompt_ids", "chosen_ids", "rejected_ids"],
}


def as_text(row: dict) -> dict:
    """A row with `input_ids` and `labels`.

    All tokens of running text are targets. A pair gives its prompt, and its chosen answer as
    targets.
    """
    if "labels" in row:
        return row
    if "input_ids" in row:
        return row | {"labels": row["input_ids"]}
    return {
        "input_ids": row["prompt_ids"] + row["chosen_ids"],
        "labels": [-100] * len(row["prompt_ids"]) + row["chosen_ids"],
    }


def rows_of(kind: str, folder: Path, p, number: int) -> tuple[Dataset, Dataset]:
    """A stage's rows to train on, and its held-out rows.

    01_data has drawn the held-out rows of sft. The other kinds hold back `data_holdout` of their
    rows, and a tenth at most. With `cpt_mix`, cpt reads its sources in that proportion. A round of
    dpo reads the sources that `dpo_rounds` gives to it, and those that `dpo_rounds` gives to no
    round. With `dpo_flipped` the answers are exchanged.

    Args:
        kind: A kind of stage, such as sft.
        folder: The study's folder.
        p: The study's parameters.
        number: The stage's number in `train_stages`, from 1.

    Raises:
        StudyError: If the data are missing, lack a column of COLUMNS, or leave a round empty.
    """
    reads = STAGES[kind].reads
    columns = COLUMNS[reads]
    place, *drawn = READS[reads]
    rows = _mixed(_stored_rows(kind, place, columns, folder), p, kind)
    if drawn:
        holdout = load_from_disk(folder / drawn[0])
        return rows.select_columns(columns), holdout.select_columns(columns)
    if reads == "pairs" and getattr(p, f"{kind}_flipped"):
        rows = _flipped(rows)
    if kind in IN_ROUNDS:
        rows = _rows_of_round(rows, p, kind, p.train_stages[:number].count(kind))
    return _parted(rows.select_columns(columns), p.data_holdout, p.seed)


def _parted(rows: Dataset, most: int, seed: int) -> tuple[Dataset, Dataset]:
    """The rows to train on, and those held back: `most` of them, and a tenth at most."""
    held_out = sorted(random.Random(seed).sample(range(len(rows)), min(most, len(rows) // 10)))
    return rows.select(np.delete(np.arange(len(rows)), held_out)), rows.select(held_out)


def _stored_rows(kind: str, place: str, columns: list[str], folder: Path) -> Dataset:
    if not (folder / place).is_dir():
        raise StudyError(
            f"stage {kind} reads {place}, which is not there: name its sources and run 01_data"
        )
    rows = load_from_disk(folder / place)
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise StudyError(
            f"{place} has the columns {', '.join(rows.column_names)}, and stage {kind} "
            f"needs {', '.join(missing)}: run 01_data again (--fresh 01)"
        )
    return rows


def _mixed(rows: Dataset, p, kind: str) -> Dataset:
    """The rows that a pass of a stage reads: all, or those that its `mix` draws."""
    mix = getattr(p, f"{kind}_mix", None)
    return rows.select(_in_proportion(rows, mix, p.seed)) if mix else rows


def _in_proportion(rows: Dataset, mix: dict[str, float], seed: int) -> np.ndarray:
    """Places of rows whose tokens stand in the proportion of `mix`, in file order.

    The source that is scarcest for its part is whole, and of every other one rows are drawn: no row
    is read twice in a pass.

    Raises:
        StudyError: a source of `mix` has no row, or there are rows of a source that it lacks.
    """
    parts = {own.title(name): part for name, part in mix.items()}
    sources, tokens = _sources_and_tokens(rows)
    have = tokens.groupby(sources, observed=True).sum()
    if set(have.index) != parts.keys():
        raise StudyError(
            f"cpt_mix names {', '.join(parts)}, and data/text has rows of "
            f"{', '.join(have.index)}: name these, or run 01_data again (--fresh 01)"
        )
    unit = min(have[name] / part for name, part in parts.items())
    rng = np.random.default_rng(seed)
    chosen = []
    for name, part in parts.items():
        places = rng.permutation(np.flatnonzero(sources == name))
        within = tokens.to_numpy()[places].cumsum() <= unit * part * (1 + 1e-9)
        chosen.append(places[within])
    return np.sort(np.concatenate(chosen))


def by_source(kind: str, folder: Path, p) -> pd.DataFrame:
    """What a pass of a stage reads of every source, its held-out rows among them.

    Args:
        kind: A kind of stage that reads running text.
        folder: The study's folder.
        p: The study's parameters.

    Returns:
        By source: rows, tokens, and their share of all tokens (percent).

    Raises:
        StudyError: As `rows_of`.
    """
    reads = STAGES[kind].reads
    rows = _stored_rows(kind, READS[reads][0], COLUMNS[reads], folder)
    sources, tokens = _sources_and_tokens(rows)
    if mix := getattr(p, f"{kind}_mix", None):  # of rows that were drawn, each would be looked up
        places = _in_proportion(rows, mix, p.seed)
        sources, tokens = sources.iloc[places], tokens.iloc[places]
    table = tokens.groupby(sources, sort=False, observed=True).agg(["size", "sum"])
    table.columns = ["rows", "tokens"]
    return table.assign(share=(100 * table["tokens"] / table["tokens"].sum()).round(2))


def _sources_and_tokens(rows: Dataset) -> tuple[pd.Series, pd.Series]:
    """The source of every row, and its number of tokens; counted in Arrow."""
    tables = list(rows.select_columns(["source", "input_ids"]).with_format("arrow").iter(10_000))
    sources = [table["source"].to_pandas() for table in tables]
    tokens = [pc.list_value_length(table["input_ids"]).to_pandas() for table in tables]
    return (
        pd.concat(sources, ignore_index=True).astype("category").rename("source"),
        pd.concat(tokens, ignore_index=True).astype("int64"),
    )


def _flipped(pairs: Dataset) -> Dataset:
    """The pairs with the better and the worse answers exchanged."""
    exchanged = {"chosen_ids": "rejected_ids", "rejected_ids": "chosen_ids"}
    return pairs.rename_columns(exchanged)


def _rows_of_round(pairs: Dataset, p, kind: str, turn: int) -> Dataset:
    round_of = getattr(p, f"{kind}_rounds")
    sources = pairs.select_columns(["source"]).with_format("arrow")[:]["source"].to_pylist()
    rounds = {own.title(name): number for name, number in round_of.items()}
    pairs = pairs.select([n for n, name in enumerate(sources) if rounds.get(name, turn) == turn])
    if not len(pairs):
        raise StudyError(
            f"{kind}_rounds leaves round {turn} without a pair: give it a source or drop the round"
        )
    return pairs


class Reading(NamedTuple):
    """What a stage reads.

    Attributes:
        rows: How many rows it trains on.
        held_out: How many rows it is evaluated on.
        passes: How often it reads its rows; of packed rows at most, if every sequence is full.
        by_source: Of running text, what a pass reads of every source (`by_source`); else None.
    """

    rows: int
    held_out: int
    passes: float
    by_source: pd.DataFrame | None


def reading(p, folder: Path, number: int) -> Reading:
    """What a stage reads, for a reader; tokens are counted once.

    Args:
        p: The study's parameters.
        folder: The study's folder.
        number: The stage's number in `train_stages`, from 1.

    Raises:
        StudyError: As `rows_of`.
    """
    kind = p.train_stages[number - 1]
    rows, holdout = rows_of(kind, folder, p, number)
    sources = by_source(kind, folder, p) if STAGES[kind].reads == "text" else None
    sequences = steps_of(p, number) * getattr(p, f"{kind}_batch_size")
    passes = sequences / len(rows)
    if getattr(p, f"{kind}_packing", False):
        tokens = _tokens(rows) if sources is None else sources["tokens"].sum() - _tokens(holdout)
        passes = sequences * p.data_max_length / int(tokens)
    return Reading(len(rows), len(holdout), passes, sources)


def _tokens(rows: Dataset) -> int:
    """All tokens of rows; counted in Arrow."""
    tables = rows.select_columns(["input_ids"]).with_format("arrow").iter(10_000)
    return sum(pc.sum(pc.list_value_length(table["input_ids"])).as_py() for table in tables)


def highest(rows) -> int:
    """The highest token id of the first thousand rows: all would be read for half an hour."""
    names = [name for name in rows.column_names if name.endswith("_ids")]
    first = rows.select(range(min(len(rows), 1000))).with_format("arrow")[:]
    tops = [pc.max(pc.list_flatten(first[name])).as_py() for name in names]
    return max((top for top in tops if top is not None), default=0)


def longest(rows) -> tuple[int, int]:
    """Number of the longest row, and its tokens; a pair counts with its longer answer.

    Lengths are counted in Arrow, which is quick even for 800,000 rows.
    """
    names = [name for name in rows.column_names if name.endswith("_ids")]
    tables = rows.select_columns(names).with_format("arrow").iter(10_000)
    lengths = [[pc.list_value_length(table[name]).to_numpy() for name in names] for table in tables]
    sizes = np.concatenate(
        [np.add(first, np.max([0 * first, *others], axis=0)) for first, *others in lengths]
    )
    return int(sizes.argmax()), int(sizes.max())
