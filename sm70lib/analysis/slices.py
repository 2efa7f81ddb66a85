"""What went wrong: answers by kind of item, flips, habits, calibration and a list of errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.core.groupby import DataFrameGroupBy

from sm70lib import benchmarks
from sm70lib.analysis.frames import DETAILS, OUTCOMES, RUN, SET, accuracy, scored, unread
from sm70lib.asking.asked_items import of_items
from sm70lib.benchmarks.fields import LETTERS
from sm70lib.benchmarks.patients import patient
from sm70lib.corpus.words import length
from sm70lib.statistics import stats

PATIENT = ("patient_age", "patient_sex")  # as the stem tells; slices by them are exploratory
SHOWN = 80  # characters of an unread reply in the list of errors
FEWEST = 10  # items of a slice; fewer are not judged
BINS = 10  # of confidence
FEW = f"fewer than {FEWEST} items"
BANDS = (0, 25, 50, 100, 150, 200, 300)  # words
LENGTHS = [f"{low + 1} to {high}" for low, high in zip(BANDS, BANDS[1:])] + [f"over {BANDS[-1]}"]
PLACES = ("position", "length")
SLICES = (*DETAILS, *PLACES, *PATIENT, "options")


def words(item: benchmarks.Item) -> int:
    """The number of words of an item's question and context."""
    return length(item.question) + length(item.context)


def with_slice_columns(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers with the columns that slices need and answers do not have.

    Args:
        answers: rows of `frames.load`.

    Returns:
        `position` is the letter of the right option, None where all questions have the same options
        (PubMedQA), `length` the number of words of the question, in bands, and PATIENT what the
        stem tells of the patient, None where it tells nothing.
    """
    counts = of_items(answers["item"], words)
    lengths = pd.cut(pd.Series(counts), [*BANDS, np.inf], labels=LENGTHS, include_lowest=True)
    fixed = [item.benchmark in benchmarks.SAME_OPTIONS for item in answers["item"]]
    letters = [None if same else LETTERS[place] for same, place in zip(fixed, answers["gold"])]
    told = of_items(answers["item"], lambda item: patient(item.question))
    columns = {name: [each[name] for each in told] for name in PATIENT}
    return answers.assign(position=letters, length=lengths.to_numpy(), **columns)


def by_slice(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """Accuracy with interval, by the items' DETAILS, PLACES, PATIENT and number of options.

    Args:
        answers: rows of `frames.load`.
        how: level of the intervals.

    Returns:
        A row for each run and value, of the columns that vary; there is no accuracy of fewer than
        FEWEST items.
    """
    rows = []
    for keys, run in with_slice_columns(answers).groupby(RUN):
        varying = [name for name in SLICES if run[name].nunique() > 1]
        for name in varying:
            values = sorted(run[name].dropna().unique(), key=_order)
            for value in values:
                part = run[run[name] == value]
                cells = {"slice": name, "value": str(value)} | _judged(part, how)
                rows.append(dict(zip(RUN, keys)) | cells)
    columns = ["slice", "value", "n", "acc_pct", "low_pct", "high_pct", "interval"]
    return pd.DataFrame(rows, columns=[*RUN, *columns])


def _order(value: object) -> tuple[int, str]:
    """Bands of length stand in their order, all other values by name."""
    text = str(value)
    return (LENGTHS.index(text) if text in LENGTHS else 0, text)


def _judged(part: pd.DataFrame, how: stats.How) -> dict:
    """The accuracy of a slice, or that it has too few items."""
    cells = accuracy(part, how)
    if cells["n"] >= FEWEST:
        return cells
    return cells | dict.fromkeys(("acc_pct", "low_pct", "high_pct"), np.nan) | {"interval": FEW}


def flips(both: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """How many answers the second model gained and lost, by benchmark and kind, with a paired test.

    Where items were asked several times, the mean number counts, so that all four outcomes add up
    to n. Where most replies of a model are unread there is no `p`, and `test` says why.
    """
    names = [*SET, "kind"]
    rows = []
    for keys, part in both.fillna({"kind": "all"}).groupby(names):
        p, test = np.nan, unread(part)
        if not test:
            right = part["correct_a"], part["correct_b"]
            p, test = stats.paired_test(*right, part["cluster"], how)
        counts = part["outcome"].value_counts().reindex(list(OUTCOMES.values()), fill_value=0)
        n = part["item_id"].nunique()
        draws = len(part) / n
        if draws != 1:
            counts = (counts / draws).round(1)
        cells = {"n": n, **counts, "test": test, "p": float(f"{p:.4g}")}
        rows.append(dict(zip(names, keys)) | cells)
    return pd.DataFrame(rows, columns=[*names, "n", *OUTCOMES.values(), "test", "p"])


def habits(answers: pd.DataFrame) -> pd.DataFrame:
    """What choices depend on besides the question: position, length, and how scores are normalised.

    Returns:
        One row per run, but for benchmarks whose questions all have the same options. Lengths are
        characters of an option over the mean of its question (1: no preference). `agree_pct` is how
        often the choice by summed log-likelihood equals the choice per character.
    """
    rows = []
    own = answers[[item.benchmark not in benchmarks.SAME_OPTIONS for item in answers["item"]]]
    for keys, part in own.dropna(subset="choice").groupby(RUN):
        favourite = int(part["choice"].mode()[0])
        cells = {
            "n": part["item_id"].nunique(),
            "favourite": LETTERS[favourite],
            "favourite_chosen_pct": 100 * (part["choice"] == favourite).mean(),
            "favourite_gold_pct": 100 * (part["gold"] == favourite).mean(),
            "chosen_length": _relative_length(part["item"], part["choice"]),
            "gold_length": _relative_length(part["item"], part["gold"]),
            "agree_pct": 100 * (part["choice"] == part["choice_norm"]).mean(),
        }
        rows.append(dict(zip(RUN, keys)) | cells)
    columns = [*RUN, "n", "favourite", "favourite_chosen_pct", "favourite_gold_pct"]
    columns += ["chosen_length", "gold_length", "agree_pct"]
    return pd.DataFrame(rows, columns=columns).round(2)


def _relative_length(items: pd.Series, places: pd.Series) -> float:
    """The mean over items of: length of the option at a place, over the mean of all its options."""
    found = []
    for item, place in zip(items, places):
        lengths = [len(text) for text in item.options]
        found.append(lengths[int(place)] * len(lengths) / sum(lengths))
    return pd.Series(found).mean()


def reliability(answers: pd.DataFrame, how: stats.How = stats.How()) -> pd.DataFrame:
    """Mean confidence, and accuracy with interval (percent), by tenth of confidence, for each run.

    Args:
        answers: rows of `frames.load`; written replies have no confidence and are left out.
        how: level of the intervals.

    Returns:
        A row for each run and tenth (`bin`, from 0). If an item was asked several times, its
        answers may be in several tenths; `n` counts items.
    """
    groups = _tenths(answers)
    rows = []
    for _, part in groups:
        correct, cluster, _ = scored(part)
        rows.append(stats.rate(correct, cluster, how).row())
    ends = pd.DataFrame(rows, columns=["low_pct", "high_pct", "interval"])
    return _means(groups).drop(columns="answers").join(ends)


def _tenths(answers: pd.DataFrame) -> DataFrameGroupBy:
    """The answers that have a confidence, by run and tenth of confidence."""
    known = answers.dropna(subset="confidence")
    known = known.assign(
        bin=(known["confidence"] * BINS).astype(int).clip(upper=BINS - 1),
        confidence_pct=100 * known["confidence"],
        acc_pct=100 * known["correct"],
    )
    return known.groupby([*RUN, "bin"])


def _means(groups: DataFrameGroupBy) -> pd.DataFrame:
    means = groups[["confidence_pct", "acc_pct"]].mean().round(2)
    return means.assign(n=groups["item_id"].nunique(), answers=groups.size()).reset_index()


def calibration(answers: pd.DataFrame) -> pd.DataFrame:
    """Expected calibration error and Brier score of each run.

    Returns:
        `ece_pts` (Guo et al. 2017, arXiv 1706.04599, eq. 3) in points, and the means of
        `confidence`, `margin` and `brier`; runs without log-likelihoods are left out.
    """
    bins = _means(_tenths(answers))
    bins["gap"] = bins["answers"] * (bins["acc_pct"] - bins["confidence_pct"]).abs()
    sums = bins.groupby(RUN)[["answers", "gap"]].sum()
    means = answers.groupby(RUN)[["confidence", "margin", "brier"]].mean().round(3)
    items = answers.dropna(subset="confidence").groupby(RUN)["item_id"].nunique()
    error = (sums["gap"] / sums["answers"]).round(1)
    return means.assign(n=items, ece_pts=error).dropna().astype({"n": int}).reset_index()


def listing(both: pd.DataFrame) -> pd.DataFrame:
    """Every answer that is wrong before or after: outcome, question, right option, both choices.

    A reply that could not be read is shown as "unread", with its first words.
    """
    wrong = both[both["outcome"] != "both right"]
    texts = {
        "question": [item.question for item in wrong["item"]],
        "gold": [item.options[int(place)] for item, place in zip(wrong["item"], wrong["gold"])],
    }
    for name, side in (("before", "_a"), ("after", "_b")):
        answers = zip(wrong["item"], wrong[f"choice{side}"], wrong[f"parsed{side}"])
        texts[name] = [_reply(item, choice, words) for item, choice, words in answers]
    columns = [*SET, "item_id", "kind", "flagged", "outcome", "confidence_b"]
    return wrong[columns].round(3).assign(**texts)


def side_by_side(answers: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """What each model wrote to the same requests, side by side.

    Args:
        answers: rows of `frames.load`, of one study.
        count: requests of each benchmark.
        seed: draws the requests.

    Returns:
        Columns benchmark and request, and one column for each model that was asked.
    """
    asked = answers[answers["benchmark"].isin(benchmarks.SAFETY) & answers["parsed"].notna()]
    if asked.empty:
        return pd.DataFrame()
    words = [" ".join(written[0].split()) for written in asked["parsed"]]
    asked = asked.assign(request=[item.question for item in asked["item"]], words=words)
    table = asked.pivot_table(
        index=["benchmark", "request"], columns="model", values="words", aggfunc="first"
    )
    table = table.dropna().reset_index()
    drawn = table.sample(frac=1, random_state=seed).groupby("benchmark").head(count)
    return drawn.sort_values("benchmark").rename_axis(columns=None).reset_index(drop=True)


def _reply(item: benchmarks.Item, choice: float | None, written: list[str] | None) -> str:
    """The text of the chosen option, or of a reply that could not be read."""
    if choice is not None and pd.notna(choice):
        return item.options[int(choice)]
    if not isinstance(written, list):
        return "unread"
    start = " ".join(written[0].split())[:SHOWN] if written else ""
    return f"unread: {start}" if start else "unread: empty reply"
