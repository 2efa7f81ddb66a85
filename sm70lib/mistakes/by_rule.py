"""Answers by rule: how often a rule holds, and how much better or worse the answers are there."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm70lib.analysis.frames import OUTCOMES, RUN, accuracy
from sm70lib.analysis.slices import FEWEST
from sm70lib.benchmarks.fields import LETTERS
from sm70lib.mistakes.rules import RULES
from sm70lib.statistics import stats

ELSE = {"acc_pct": "else_pct", "low_pct": "else_low_pct", "high_pct": "else_high_pct"}
SHOWN = 20  # mistakes
TWO_WAYS = {"gained": "only the second", "lost": "only the first"}
PLACE = ["study", "model", "benchmark", "item_id"]
DRAW = [*RUN, "item_id", "seed", "sample"]  # one answer


def by_rule(answers: pd.DataFrame, marks: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """Accuracy where a rule holds and where it does not, for each run.

    Args:
        answers: rows of `frames.load`.
        marks: `rules.marks` of them.
        how: level of the intervals.

    Returns:
        One row for each run and rule that holds for an item of it: n, wrong and accuracy where it
        holds, and the same where it does not (`n_else`, `else_pct`). Accuracies of fewer than
        FEWEST items are empty.
    """
    rows = []
    for keys, run in answers.groupby(RUN):
        held = marks.loc[run.index]
        for rule in held.columns[held.any()]:
            inside, outside = run[held[rule]], run[~held[rule]]
            cells = {"rule": rule} | _accuracy(inside, how)
            cells |= {
                ELSE.get(name, f"{name}_else"): v for name, v in _accuracy(outside, how).items()
            }
            rows.append(dict(zip(RUN, keys)) | cells)
    columns = ["rule", "n", "wrong", *ELSE, "n_else", "wrong_else", *ELSE.values()]
    return pd.DataFrame(rows, columns=[*RUN, *columns])


def _accuracy(part: pd.DataFrame, how: stats.How) -> dict:
    """Items, mistakes, and accuracy with interval, if there are items enough."""
    count = part["item_id"].nunique()
    wrong = part.loc[~part["correct"].astype(bool), "item_id"].nunique()
    cells = {"n": count, "wrong": wrong} | dict.fromkeys(ELSE, np.nan)
    if count < FEWEST:
        return cells
    measured = accuracy(part, how)
    return cells | {name: measured[name] for name in ELSE}


def confident(answers: pd.DataFrame, marks: pd.DataFrame, count: int = SHOWN) -> pd.DataFrame:
    """The mistakes that each model was surest of, over all benchmarks.

    Args:
        answers: rows of `frames.load`; written replies have no confidence and are left out.
        marks: `rules.marks` of them.
        count: mistakes of each model.

    Returns:
        DRAW, confidence, letters of the choice and of the right option, and the rules that hold. Of
        several draws of an item the surest wrong one counts. It quotes no question, since not every
        licence lets questions be copied.
    """
    wrong = answers[~answers["correct"].astype(bool) & answers["confidence"].notna()]
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable")
    wrong = wrong.drop_duplicates([*RUN, "item_id"]).groupby("model").head(count)
    wrong = wrong.sort_values(["model", "confidence"], ascending=[True, False], kind="stable")
    held = marks.loc[wrong.index]
    return wrong[DRAW].assign(
        confidence=wrong["confidence"].round(3),
        chosen=wrong["choice"].map(letter),
        right=wrong["gold"].map(letter),
        rules=[", ".join(held.columns[row]) for row in held.to_numpy()],
    )


def with_texts(surest: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """The surest mistakes with the question, the chosen and the right option in words.

    Args:
        surest: rows of `confident`.
        answers: the answers that it was made from.
    """
    found = surest[DRAW].merge(answers, on=DRAW)
    rows = zip(found["item"], found["choice"], found["gold"])
    texts = [(item.question, item.options[int(a)], item.options[int(b)]) for item, a, b in rows]
    words = pd.DataFrame(texts, columns=["question", "answer", "right answer"])
    shown = surest[["benchmark", "confidence", "rules"]].reset_index(drop=True)
    return shown.join(words)


def letter(place: float) -> str:
    """The letter of an option by its position from 0; "–" for an unread reply."""
    return "–" if pd.isna(place) else LETTERS[int(place)]


def two_ways(answers: pd.DataFrame, first: str) -> pd.DataFrame:
    """The same items asked by the declared protocol and by each other one, answer by answer.

    Where one of the two reads what a model writes, this is likelihood against text.

    Args:
        answers: rows of `frames.load`; of several draws of an item the first counts.
        first: the declared protocol.

    Returns:
        One row per model, benchmark, shots and pair of protocols: how each is read (`likelihood` or
        `text`), n, and on how many items both, one or none of them is right.
    """
    keys = [*PLACE, "shots"]
    once = answers.drop_duplicates([*keys, "protocol"])
    once = once.assign(read=np.where(once["parsed"].notna(), "text", "likelihood"))
    columns = [*keys, "protocol", "read", "correct"]
    declared = once.loc[once["protocol"] == first, columns]
    others = once.loc[once["protocol"] != first, columns]
    both = declared.merge(others, on=keys, suffixes=("_a", "_b"))
    both["outcome"] = [OUTCOMES[pair] for pair in zip(both["correct_a"], both["correct_b"])]
    groups = ["study", "model", "benchmark", "shots", "protocol_a", "read_a"]
    groups += ["protocol_b", "read_b"]
    counts = pd.crosstab([both[name] for name in groups], both["outcome"])
    counts = counts.reindex(columns=list(OUTCOMES.values()), fill_value=0)
    counts.insert(0, "n", counts.sum(axis=1))
    return counts.rename(columns=TWO_WAYS).rename_axis(columns=None).reset_index()


def catalogue() -> pd.DataFrame:
    """The rules and when each holds, in words."""
    return pd.DataFrame([(rule.name, rule.what) for rule in RULES], columns=["rule", "holds"])
