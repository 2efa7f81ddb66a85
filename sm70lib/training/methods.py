"""Training methods (cpt, sft, dpo): a table of how they differ, and the rows that each reads.

TRL's classes stand here by name: notebook 03 reads this table, and needs no TRL (2 s to import).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, load_from_disk

from sm70lib.parameters import own
from sm70lib.study.params import StudyError


def _packing(p, kind: str) -> dict:
    """The setting that only methods on single texts have."""
    return {"packing": getattr(p, f"{kind}_packing")}


def _beta(p, kind: str) -> dict:
    """The setting that only methods on pairs have."""
    return {"beta": getattr(p, f"{kind}_beta")}


def _any_first_loss(loss: float) -> None:
    """Accepts every loss: nothing is known of it before training."""


def _first_loss_is_ln_2(loss: float) -> None:
    """Raises StudyError unless policy and reference are the same model before the first step.

    DPO then begins at ln 2 (Rafailov et al., arXiv 2305.18290, eq. 7).
    """
    if abs(loss - math.log(2)) > 1e-3:
        raise StudyError(
            f"the first loss of dpo is {loss:.4f} and not ln 2: the reference is not the model "
            "that this stage starts from; run 03 again with --fresh 03"
        )


def _unchanged(row: dict) -> dict:
    return row


def _chosen_answer(pair: dict) -> dict:
    """The prompt and the chosen answer of a pair, with the answer as targets."""
    return {
        "input_ids": pair["prompt_ids"] + pair["chosen_ids"],
        "labels": [-100] * len(pair["prompt_ids"]) + pair["chosen_ids"],
    }


@dataclass(frozen=True)
class Method:
    """What one kind of training stage reads and how it is trained.

    Attributes:
        reads: Folder of its rows, below the study's folder.
        columns: Columns that its trainer is given.
        trainer: Name of its trainer class in `trainers`.
        config: Name of TRL's class of settings for that trainer.
        own_settings: Gives the settings that the other methods lack, from parameters and kind.
        check_first_loss: Takes the loss before the first step and raises StudyError if it is wrong.
        as_text: Turns one row into `input_ids` and `labels`.
        holdout: Folder of its held-out rows; None if they are drawn from `reads`.
        in_rounds: Whether `dpo_rounds` decides which sources a stage reads.
    """

    reads: str
    columns: tuple[str, ...]
    trainer: str
    config: str
    own_settings: Callable[..., dict]
    check_first_loss: Callable[[float], None]
    as_text: Callable[[dict], dict]
    holdout: str | None = None
    in_rounds: bool = False


METHODS = {
    "cpt": Method(
        reads="data/text",
        columns=("input_ids", "labels"),
        trainer="SFTTrainer",
        config="SFTConfig",
        own_settings=_packing,
        check_first_loss=_any_first_loss,
        as_text=_unchanged,
    ),
    "sft": Method(
        reads="data/train",
        holdout="data/holdout",
        columns=("input_ids", "labels"),
        trainer="SFTTrainer",
        config="SFTConfig",
        own_settings=_packing,
        check_first_loss=_any_first_loss,
        as_text=_unchanged,
    ),
    "dpo": Method(
        reads="data/preferences",
        columns=("prompt_ids", "chosen_ids", "rejected_ids"),
        in_rounds=True,
        trainer="PairTrainer",
        config="DPOConfig",
        own_settings=_beta,
        check_first_loss=_first_loss_is_ln_2,
        as_text=_chosen_answer,
    ),
}


def method_of(trainer) -> Method:
    """The method that a trainer of `trainers.build` follows; cpt and sft are trained alike."""
    return next(method for method in METHODS.values() if method.trainer == type(trainer).__name__)


def rows_of(kind: str, folder: Path, p, number: int) -> tuple[Dataset, Dataset]:
    """A stage's rows to train on, and its held-out rows.

    sft has held-out rows of its own. The other kinds hold back `data_holdout` of their rows, and
    a tenth at most. A round of dpo reads the sources that `dpo_rounds` gives to it, and those that
    `dpo_rounds` gives to no round.

    Args:
        kind: cpt, sft or dpo.
        folder: The study's folder.
        p: The study's parameters.
        number: The stage's number in `train_stages`, from 1.

    Raises:
        StudyError: If the data are missing, lack a column of METHODS, or leave a round empty.
    """
    method = METHODS[kind]
    columns = list(method.columns)
    rows = _stored_rows(kind, method, folder)
    if method.holdout:
        holdout = load_from_disk(folder / method.holdout)
        return rows.select_columns(columns), holdout.select_columns(columns)
    if method.in_rounds:
        rows = _rows_of_round(rows, p, p.train_stages[:number].count(kind))
    held_out = set(
        random.Random(p.seed).sample(range(len(rows)), min(p.data_holdout, len(rows) // 10))
    )
    kept = [place for place in range(len(rows)) if place not in held_out]
    return (
        rows.select(kept).select_columns(columns),
        rows.select(sorted(held_out)).select_columns(columns),
    )


def _stored_rows(kind: str, method: Method, folder: Path) -> Dataset:
    if not (folder / method.reads).is_dir():
        raise StudyError(
            f"stage {kind} reads {method.reads}, which is not there: name its sources and run "
            "01_data"
        )
    rows = load_from_disk(folder / method.reads)
    missing = [column for column in method.columns if column not in rows.column_names]
    if missing:
        raise StudyError(
            f"{method.reads} has the columns {', '.join(rows.column_names)}, and stage {kind} "
            f"needs {', '.join(missing)}: run 01_data again (--fresh 01)"
        )
    return rows


def _rows_of_round(pairs: Dataset, p, turn: int) -> Dataset:
    sources = enumerate(pairs["source"])
    rounds = {own.title(name): number for name, number in p.dpo_rounds.items()}
    pairs = pairs.select([n for n, name in sources if rounds.get(name, turn) == turn])
    if not len(pairs):
        raise StudyError(
            f"dpo_rounds leaves round {turn} without a pair: give it a source or drop the round"
        )
    return pairs


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
