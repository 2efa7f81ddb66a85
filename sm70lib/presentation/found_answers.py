"""What the notebooks 05 and 06 found: one sentence for each section, from its table."""

from __future__ import annotations

import pandas as pd

from sm70lib.presentation import names


def by_slice(table: pd.DataFrame, model: str) -> str:
    """On which slice a model is right least often, and on which most often (`slices.by_slice`)."""
    judged = table[table["model"] == model].dropna(subset="acc_pct")
    if judged.empty:
        return f"No slice of the questions that {names.model(model)} answered has an accuracy."
    least, most = (
        judged.loc[place] for place in (judged["acc_pct"].idxmin(), judged["acc_pct"].idxmax())
    )
    return (
        f"Over {len(judged)} slices, {names.model(model)} is right least often on {_slice(least)} "
        f"and most often on {_slice(most)}. One of many slices is always the lowest: read its "
        "interval first."
    )


def _slice(row: pd.Series) -> str:
    name = str(row["slice"]).replace("_", " ")
    place = f"{name} {row['value']} of {names.benchmark(row['benchmark'])}"
    return f"{place} ({row['acc_pct']:.1f} % of {row['n']:,})"


def flips(table: pd.DataFrame) -> str:
    """How many answers tuning gained and lost, and where it lost most (`slices.flips`)."""
    if table.empty:
        return "No question was answered both before and after tuning."
    by_benchmark = table.groupby("benchmark")[["n", "gained", "lost"]].sum()
    total = by_benchmark.sum()
    words = (
        f"Of {total['n']:,.0f} answers, tuning gained {total['gained']:,.0f} and lost "
        f"{total['lost']:,.0f}"
    )
    if len(by_benchmark) == 1 or not total["lost"]:
        return f"{words}."
    worst = by_benchmark["lost"].idxmax()
    lost, asked = by_benchmark.loc[worst, ["lost", "n"]]
    return f"{words}; it lost most on {names.benchmark(worst)} ({lost:,.0f} of {asked:,.0f})."


def habits(table: pd.DataFrame, model: str) -> str:
    """Which position a model favours most, beyond its share of right options (`slices.habits`)."""
    mine = table[table["model"] == model]
    if mine.empty:
        return f"{names.model(model)} chose no options."
    worst = mine.loc[(mine["favourite_chosen_pct"] - mine["favourite_gold_pct"]).idxmax()]
    return (
        f"{names.model(model)} leans most on a position in {names.benchmark(worst['benchmark'])}: "
        f"it chooses {worst['favourite']} for {worst['favourite_chosen_pct']:.1f} % of the "
        f"questions, and {worst['favourite']} is right for {worst['favourite_gold_pct']:.1f} %."
    )


def by_rule(table: pd.DataFrame, model: str) -> str:
    """Under which rule a model's accuracy is lowest against the rest (`by_rule.by_rule`)."""
    judged = table[table["model"] == model].dropna(subset=["acc_pct", "else_pct"])
    if judged.empty:
        return f"No rule could be judged for {names.model(model)}."
    gap = judged["acc_pct"] - judged["else_pct"]
    if gap.min() >= 0:
        return f"Under no rule is {names.model(model)} right less often than elsewhere."
    worst = judged.loc[gap.idxmin()]
    return (
        f'{names.model(model)} falls most under the rule "{worst["rule"]}" on '
        f"{names.benchmark(worst['benchmark'])}: {worst['acc_pct']:.1f} % of {worst['n']:,} where "
        f"it holds, {worst['else_pct']:.1f} % of {worst['n_else']:,} elsewhere."
    )


def two_ways(table: pd.DataFrame) -> str:
    """Which two protocols disagree most about the same questions (`by_rule.two_ways`)."""
    if table.empty:
        return "No question was asked in two ways."
    split = (table["only the first"] + table["only the second"]) / table["n"]
    most = table.loc[split.idxmax()]
    return (
        f"{names.benchmark(most['benchmark'])} depends most on how it is asked: "
        f"{100 * split.max():.1f} % of {most['n']:,} questions are right under only one of "
        f"{most['protocol_a']} and {most['protocol_b']}."
    )


def calibration(table: pd.DataFrame, model: str) -> str:
    """How far a model's confidence is from its accuracy (`slices.calibration`)."""
    mine = table[table["model"] == model].dropna(subset="ece_pts")
    if mine.empty:
        return f"{names.model(model)} has no confidence: it chose no options."
    least, most = (
        mine.loc[place] for place in (mine["ece_pts"].idxmin(), mine["ece_pts"].idxmax())
    )
    words = f"The calibration error of {names.model(model)} is {_error(least)}"
    return f"{words}." if len(mine) == 1 else f"{words} at best, and {_error(most)} at worst."


def _error(row: pd.Series) -> str:
    return f"{row['ece_pts']:.1f} points on {names.benchmark(row['benchmark'])}"


def preferences(table: pd.DataFrame, model: str) -> str:
    """How often a model finds the better of two answers likelier (`preferences.table`)."""
    mine = table[table["model"] == model]
    shares = [
        f"{row['acc_pct']:.1f} % of {row['n']:,} {names.benchmark(row['benchmark'])}"
        for row in mine.to_dict("records")
    ]
    return f"{names.model(model)} finds the better answer likelier in {names.listed(shares)}."


def compared(table: pd.DataFrame) -> str:
    """What the declared comparisons say (rows of `comparisons.comparisons`)."""
    if table.empty:
        return "No comparison was declared."
    counts = [
        f"{names.text(what)} ({count})" for what, count in table["reading"].value_counts().items()
    ]
    return f"Declared comparisons: {names.listed(counts)}."


def losses(table: pd.DataFrame, study: str) -> str:
    """How tuning changed the loss on each kind of document, in nats (`losses.table`)."""
    mine = table[table["study"] == study].pivot(
        index="source", columns="model", values="nats_per_token"
    )
    start = "base-nf4" if "base-nf4" in mine else "base"
    if not {start, "tuned"} <= set(mine.columns):
        return f"{start} and tuned did not both read these texts."
    change = (mine["tuned"] - mine[start]).dropna()
    words = [f"{names.benchmark(str(name))} {nats:+.3f}" for name, nats in change.items()]
    start = names.model(start)
    return f"From {start} to tuned the loss changes, in nats per token: {', '.join(words)}."


def leaked(table: pd.DataFrame) -> str:
    """In how many places leaked questions gained more (`comparisons.contamination_effect`)."""
    judged = table.dropna(subset=["low_pts", "high_pts"])
    if judged.empty:
        return "Nothing can be said about what leaked questions are worth."
    more, less = (judged["low_pts"] > 0).sum(), (judged["high_pts"] < 0).sum()
    return (
        f"In {more} of {len(judged)} comparisons leaked questions gained more than clean ones, and "
        f"in {less} they gained less: there the interval lies on one side of zero."
    )
