"""Answers as data frames: one row per answer, and what counts as one item and as one score."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis.roles import BASE, BASE_NF4, TUNED
from sm70lib.asking.asked_items import Asked
from sm70lib.parameters import aggregates
from sm70lib.protocols import replies
from sm70lib.records import jsonlines
from sm70lib.statistics import confidence, stats, verdicts
from sm70lib.study.params import StudyError

RUN = ["study", "model", "benchmark", "protocol", "shots"]
SET = ["study", "benchmark", "protocol", "shots"]
DETAILS = ("kind", "step", "subject", "relation", "wording")  # of items, where known
OUTCOMES = {
    (True, True): "both right",
    (False, True): "gained",
    (True, False): "lost",
    (False, False): "both wrong",
}


def frame(folder: Path) -> pd.DataFrame:
    """One row per prediction of a study, joined with its item and the contamination flag.

    Args:
        folder: outputs/<study>.

    Returns:
        The predictions' own columns, the `line` of each in its file, and: `item`, `cluster`, the
        item's DETAILS, `options` (how many), `flagged`, `confidence` (softmax share of the best
        option), `margin` (nats over the next best), `brier`, `study`, `base` (name or folder), and
        `weights` (how many, if the base was trained here).

    Raises:
        StudyError: there are no predictions, a line is broken or twice there, an item is unknown.
    """
    asked = Asked(folder / "data")
    parts = []  # a table for each file: a million lines as dictionaries would take 4 GB
    for path in sorted((folder / "predictions").glob("*/*.jsonl")):
        rows = jsonlines.rows(path)
        rows = [row for row in rows if row["benchmark"] not in benchmarks.WITHOUT_ACCURACY]
        if rows:
            parts.append(_described(rows, asked))
    if not parts:
        raise StudyError(f"outputs/{folder.name}/predictions is empty; run 04_eval first.")
    answers = pd.concat(parts, ignore_index=True)
    for name in answers.select_dtypes(object):  # such as numbers and None in turn
        answers[name] = pd.Series(answers[name].tolist())
    base = json.loads((folder / "base" / "base.json").read_text(encoding="utf-8"))
    return answers.assign(
        study=folder.name, base=base["model"], weights=base.get("weights", np.nan)
    )


def _described(rows: list[dict], asked: Asked) -> pd.DataFrame:
    """The predictions of a file, with the columns that `frame` adds to them."""
    for row in rows:
        if row["item_id"] not in asked.items(row["benchmark"]):
            raise StudyError(
                f"predictions of {row['model']}: item {row['item_id']!r} is not in data/benchmarks/"
                f"{row['benchmark']}.jsonl; the benchmarks changed, run 04_eval again."
            )
    names = ("benchmark", "item_id", "protocol", "seed")
    items = [asked.item(*(row[name] for name in names)) for row in rows]
    table = pd.DataFrame(rows)
    for name in (*DETAILS, "pair"):
        table[name] = [getattr(item.details, name) for item in items]
    table["item"] = items
    table["cluster"] = [item.cluster for item in items]
    table["flagged"] = [(row["benchmark"], row["item_id"]) in asked.hits for row in rows]
    table["options"] = [len(item.options) for item in items]
    scores = [row["loglikelihoods"] or () for row in rows]
    return table.assign(**confidence.measured(scores, [row["gold"] for row in rows]))


def paired(answers: pd.DataFrame, before: str, after: str) -> pd.DataFrame:
    """The questions that both models answered, one row each.

    Args:
        answers: rows of `frame` or `load`.
        before: the first model; its columns end in `_a`.
        after: the second model; its columns end in `_b`.

    Returns:
        `choice`, `correct`, `confidence` and `parsed` of both, `outcome` (a value of OUTCOMES), and
        the first model's other columns.
    """
    on = [*SET, "item_id", "seed", "sample"]
    first = answers[answers["model"] == before]
    second = answers[answers["model"] == after]
    columns = [*on, "choice", "correct", "confidence", "parsed"]
    both = first.merge(second[columns], on=on, suffixes=("_a", "_b"))
    outcomes = [OUTCOMES[pair] for pair in zip(both["correct_a"], both["correct_b"])]
    return both.assign(outcome=outcomes)


def by_item(part: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One row per item; several answers to an item (seeds, samples) become their mean.

    Asking an item again does not make it another item: n and every interval count items.

    Args:
        part: answers of one run, or `paired` answers.
        columns: the columns to take the mean of.
    """
    keys = ["benchmark", "item_id"]
    if not part.duplicated(keys).any():
        return part
    means = part.groupby(keys, sort=False)[columns].mean().reset_index()
    return part.drop_duplicates(keys).drop(columns=columns).merge(means, on=keys)


def accuracy(part: pd.DataFrame, how: stats.How) -> dict:
    """Cells of an accuracy with its interval; or why there is none, if most answers are unread.

    Args:
        part: the answers of one run (`frame`), or some of them.
        how: level of the interval.

    Returns:
        n (items), acc_pct, low_pct and high_pct (percent), and how the interval was computed.
    """
    if why := replies.unscored(int(part["choice"].isna().sum()), len(part)):
        numbers = dict.fromkeys(("acc_pct", "low_pct", "high_pct"), np.nan)
        return {"n": part["item_id"].nunique()} | numbers | {"interval": why}
    correct, cluster, weight = scored(part)
    return stats.rate(correct, cluster, how, weight).row()


def scored(part: pd.DataFrame) -> tuple:
    """What an interval is computed from: (n,) right or wrong, clusters, weights of a macro mean."""
    items = by_item(part, ["correct"])
    weight = None
    if aggregates.is_macro(part["benchmark"]):
        weight = 1 / items.groupby("step")["step"].transform("size")
    return items["correct"], items["cluster"], weight


def habit(part: pd.DataFrame, choice: str = "choice") -> tuple[int, float, pd.DataFrame] | None:
    """The position that a model nearly always chose; such a model gets no verdict.

    Refusals are not letters; and choosing one position is no habit where the right answer is nearly
    always at that position.

    Args:
        part: the answers of one run (`frame`), or `paired` answers.
        choice: the column with the model's choices.

    Returns:
        The position (from 0), its share of the answers, and these: those that choose an option.
        None without a habit.
    """
    read = part[~part["benchmark"].isin(benchmarks.SAFETY)].dropna(subset=choice)
    if not verdicts.is_constant(read[choice]) or verdicts.is_constant(read["gold"]):
        return None
    commonest = int(read[choice].mode()[0])
    return commonest, (read[choice] == commonest).mean(), read


def shown(row, after: str = "") -> str:
    """An accuracy in one cell: value, interval and the text `after`; or why there is none."""
    if pd.isna(row.acc_pct):
        return row.interval
    return f"{row.acc_pct} [{row.low_pct}, {row.high_pct}]{after}"


def unread(both: pd.DataFrame, a: str = "before", b: str = "after") -> str:
    """Why `paired` answers of models `a` and `b` cannot be compared; "" if most are read."""
    prefix = f"{replies.NO_SCORE}: "
    reasons = []
    for name, side in ((a, "choice_a"), (b, "choice_b")):
        why = replies.unscored(int(both[side].isna().sum()), len(both))
        if why:
            reasons.append(f"{why.removeprefix(prefix)} ({name})")
    return prefix + "; ".join(reasons) if reasons else ""


def load(outputs: Path, studies: list[str]) -> pd.DataFrame:
    """The answers of several studies.

    Args:
        outputs: the folder of all studies.
        studies: their names.

    Returns:
        Rows of `frame`.

    Raises:
        StudyError: as `frame`.
    """
    return pd.concat([frame(outputs / study) for study in studies], ignore_index=True)


def named(answers: pd.DataFrame, names: Collection[str]) -> pd.DataFrame:
    """The answers to some benchmarks and aggregates.

    Args:
        answers: rows of `frame` or `load`.
        names: of benchmarks and aggregates (see `aggregates.names`).

    Returns:
        The rows of the benchmarks, then those of each aggregate: all answers to its members, with
        its name as `benchmark` and the member's name as `step`.
    """
    parts = [answers[answers["benchmark"].isin(names)]]
    for aggregate in aggregates.AGGREGATES:
        if aggregate.name in names:
            part = answers[answers["benchmark"].isin(aggregate.members)]
            parts.append(part.assign(benchmark=aggregate.name, step=part["benchmark"]))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled or parts[:1], ignore_index=True)


def fictional(answers: pd.DataFrame) -> bool:
    """Whether the questions are about the generated world: only its items have a `kind`."""
    return bool(answers["kind"].notna().any())


def trained_here(weights: float | None) -> str:
    """What to call a base that was trained here, by its number of weights; "" for other bases."""
    if weights is None or pd.isna(weights):
        return ""
    return f"has {weights / 1e6:.1f} million weights and was trained here from scratch"


def before(answers: pd.DataFrame) -> str:
    """The model that tuned is compared with: the base in NF4, the base, or the first stage."""
    models = sorted(answers["model"].unique())
    first = [name for name in models if name.startswith(f"{TUNED}-1-")]
    return next((name for name in (BASE_NF4, BASE, *first) if name in models), BASE)
