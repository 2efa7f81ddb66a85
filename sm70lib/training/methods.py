"""Training methods: how each kind of stage is trained, and the rows that it reads.

TRL's classes stand here by name: notebook 03 reads this table, and needs no TRL (2 s to import).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from datasets import Dataset, load_from_disk

from sm70lib.parameters import own
from sm70lib.parameters.stages import IN_ROUNDS, READS, STAGES, steps_of
from sm70lib.study.params import StudyError


def _any_first_loss(loss: float) -> None:
    """Accepts every loss: nothing is known of it before training."""


def _first_loss_is_ln_2(loss: float) -> None:
    """Raises StudyError unless policy and reference are the same model before the first step.

    DPO then begins at ln 2 (Rafailov et al., arXiv 2305.18290, eq. 7).
    """
    if abs(loss - math.log(2)) > 1e-3:
        raise StudyError(
            f"the first loss of this stage is {loss:.4f} and not ln 2: the reference is not the "
            "model that this stage starts from; run 03 again with --fresh 03"
        )


@dataclass(frozen=True)
class Method:
    """How one kind of training stage is trained; what it reads is in `STAGES` of the parameters.

    Attributes:
        trainer: Name of its trainer class in `trainers`.
        config: Name of TRL's class of settings for that trainer.
        check_first_loss: Takes the loss before the first step and raises StudyError if it is wrong.
        fixed: Settings of TRL that no study may change.
    """

    trainer: str
    config: str
    check_first_loss: Callable[[float], None] = _any_first_loss
    fixed: dict[str, Any] = field(default_factory=dict)


METHODS = {
    "cpt": Method("SFTTrainer", "SFTConfig"),
    "sft": Method("SFTTrainer", "SFTConfig"),
    "dpo": Method("PairTrainer", "DPOConfig", _first_loss_is_ln_2),
}
COLUMNS = {  # that a trainer is given, by what its stage reads
    "rows": ["input_ids", "labels"],
    "text": ["input_ids"],  # TRL counts every token of a row without labels
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
    held_out = set(
        random.Random(p.seed).sample(range(len(rows)), min(p.data_holdout, len(rows) // 10))
    )
    kept = [place for place in range(len(rows)) if place not in held_out]
    return (
        rows.select(kept).select_columns(columns),
        rows.select(sorted(held_out)).select_columns(columns),
    )


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
    rows = _mixed(_stored_rows(kind, READS[reads][0], COLUMNS[reads], folder), p, kind)
    sources, tokens = _sources_and_tokens(rows)
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
    sources = enumerate(pairs["source"])
    rounds = {own.title(name): number for name, number in round_of.items()}
    pairs = pairs.select([n for n, name in sources if rounds.get(name, turn) == turn])
    if not len(pairs):
        raise StudyError(
            f"{kind}_rounds leaves round {turn} without a pair: give it a source or drop the round"
        )
    return pairs


def passes(p, number: int, rows: Dataset) -> float:
    """How often a stage reads its rows; of packed rows at most, if every sequence is full."""
    kind = p.train_stages[number - 1]
    sequences = steps_of(p, number) * getattr(p, f"{kind}_batch_size")
    if not getattr(p, f"{kind}_packing", False):
        return sequences / len(rows)
    tables = rows.select_columns(["input_ids"]).with_format("arrow").iter(10_000)
    tokens = sum(pc.sum(pc.list_value_length(table["input_ids"])).as_py() for table in tables)
    return sequences * p.data_max_length / tokens


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
