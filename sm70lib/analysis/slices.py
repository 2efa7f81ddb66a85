"""From predictions to what went wrong: one row per answer, cut along everything a reviewer asks about."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis.frames import META, OUTCOMES, RUN, SET, accuracy, unread
from sm70lib.statistics import stats

SHOWN = 80  # characters of an unread reply in the list of errors


def by_slice(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """Accuracy with interval by what the items' meta hold and by the number of options, where these vary."""
    rows = []
    for keys, run in answers.groupby(RUN):
        for name in (name for name in (*META, "options") if run[name].nunique() > 1):
            for value, part in run.groupby(name):
                found = accuracy(part, how)
                rows.append(dict(zip(RUN, keys)) | {"slice": name, "value": str(value)} | found)
    columns = ["slice", "value", "n", "acc_pct", "low_pct", "high_pct", "interval"]
    return pd.DataFrame(rows, columns=[*RUN, *columns])


def flips(both: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """How many answers the second model gained and lost, by benchmark and kind, with paired test.

    Of several draws of the same items the mean number counts, so that all four add up to n. Where
    most replies of a model are unread there is no `p`, and `test` says why.
    """
    rows, names = [], [*SET, "kind"]
    for keys, part in both.fillna({"kind": "all"}).groupby(names):
        why = unread(part)
        p, test = (
            (np.nan, why)
            if why
            else stats.paired_test(part["correct_a"], part["correct_b"], part["cluster"], how)
        )
        counts = part["outcome"].value_counts().reindex(list(OUTCOMES.values()), fill_value=0)
        n, draws = part["item_id"].nunique(), len(part) / part["item_id"].nunique()
        counts = counts if draws == 1 else (counts / draws).round(1)
        cells = {"n": n, **counts, "test": test, "p": float(f"{p:.4g}")}
        rows.append(dict(zip(names, keys)) | cells)
    return pd.DataFrame(rows, columns=[*names, "n", *OUTCOMES.values(), "test", "p"])


def habits(answers: pd.DataFrame) -> pd.DataFrame:
    """What choices lean on besides the question: a favourite position, length, how the score is normalised.

    Lengths are an option's characters over its question's average (1: no lean); `agree_pct` compares the
    choice by summed log-likelihood with the one per character.
    """

    def lean(row, column):
        lengths = [len(text) for text in row["item"].options]
        return lengths[int(row[column])] / np.mean(lengths)

    rows, names = (
        [],
        [
            *RUN,
            "n",
            "favourite",
            "favourite_chosen_pct",
            "favourite_gold_pct",
            "chosen_length",
            "gold_length",
            "agree_pct",
        ],
    )
    for keys, part in answers.dropna(subset="choice").groupby(RUN):
        favourite = int(part["choice"].mode()[0])
        rows.append(
            dict(zip(RUN, keys))
            | {
                "n": part["item_id"].nunique(),
                "favourite": chr(65 + favourite),
                "favourite_chosen_pct": 100 * (part["choice"] == favourite).mean(),
                "favourite_gold_pct": 100 * (part["gold"] == favourite).mean(),
                "chosen_length": part.apply(lean, axis=1, column="choice").mean(),
                "gold_length": part.apply(lean, axis=1, column="gold").mean(),
                "agree_pct": 100 * (part["choice"] == part["choice_norm"]).mean(),
            }
        )
    return pd.DataFrame(rows, columns=names).round(2)


def reliability(answers: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Mean confidence and accuracy (percent) in `bins` equal bins of confidence, for each run.

    Where an item was asked several times its answers may stand in several bins; `n` counts items.
    """
    return _binned(answers, bins).drop(columns="answers")


def _binned(answers: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    known = answers.dropna(subset="confidence").assign(
        bin=lambda x: (x["confidence"] * bins).astype(int).clip(upper=bins - 1),
        confidence_pct=lambda x: 100 * x["confidence"],
        acc_pct=lambda x: 100 * x["correct"],
    )
    groups = known.groupby([*RUN, "bin"])
    means = groups[["confidence_pct", "acc_pct"]].mean().round(2)
    return means.assign(n=groups["item_id"].nunique(), answers=groups.size()).reset_index()


def calibration(answers: pd.DataFrame) -> pd.DataFrame:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3) in points, Brier's score."""
    bins = _binned(answers)
    bins["gap"] = bins["answers"] * (bins["acc_pct"] - bins["confidence_pct"]).abs()
    sums = bins.groupby(RUN)[["answers", "gap"]].sum()
    means = answers.groupby(RUN)[["confidence", "margin", "brier"]].mean().round(3)
    items = answers.dropna(subset="confidence").groupby(RUN)["item_id"].nunique()
    found = means.assign(n=items, ece_pts=(sums["gap"] / sums["answers"]).round(1))
    return found.dropna().astype({"n": int}).reset_index()


def listing(both: pd.DataFrame) -> pd.DataFrame:
    """Every answer that is wrong before or after, with its text: outcome, question, gold, both choices.

    A reply that could not be read stands as "unread", with its first words.
    """
    wrong = both[both["outcome"] != "both right"]
    asked = zip(wrong["item"], wrong["gold"])
    texts = {"gold": [item.options[int(place)] for item, place in asked]}
    for name, side in (("before", "_a"), ("after", "_b")):
        answers = zip(wrong["item"], wrong[f"choice{side}"], wrong[f"parsed{side}"])
        texts[name] = [_said(*answer) for answer in answers]
    columns = [*SET, "item_id", "kind", "flagged", "outcome", "confidence_b"]
    return (
        wrong[columns].round(3).assign(question=[item.question for item in wrong["item"]], **texts)
    )


def _said(item: benchmarks.Item, choice: float | None, written: list[str] | None) -> str:
    """The chosen option's text, or what stands in its place."""
    if pd.notna(choice):
        return item.options[int(choice)]
    if not isinstance(written, list):
        return "unread"
    start = " ".join(written[0].split())[:SHOWN] if written else ""
    return f"unread: {start}" if start else "unread: empty reply"
