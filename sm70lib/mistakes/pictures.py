"""Pictures of mistakes: by what the question is like, what is mistaken for what, how sure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sm70lib.analysis.drawing import grid, looks, nothing, titled
from sm70lib.analysis.panels import panels
from sm70lib.analysis.roles import BASE, BASE_NF4, TUNED
from sm70lib.analysis.slices import FEWEST
from sm70lib.presentation import names

WHAT = {
    "position": "position of the right option",
    "step": "step of the exam",
    "subject": "subject",
    "length": "length of the question (words)",
}
HALF = 50  # percent of the answers


def by_slice(sliced: pd.DataFrame, name: str) -> Figure:
    """Accuracy by one property of the questions, in a panel for each benchmark.

    Args:
        sliced: `slices.by_slice` of one protocol and number of shots.
        name: a key of WHAT.
    """
    there = sliced[sliced["slice"] == name]
    table = there.dropna(subset="acc_pct")
    if table.empty:
        few = f"no group has {FEWEST} items" if len(there) else "all questions are alike"
        return nothing(f"Accuracy by {WHAT[name]}: {few}")
    fig, axes = panels(_start_and_tuned(table), "benchmark", "value", f"fewer than {FEWEST} items")
    return titled(fig, f"Accuracy by {WHAT[name]}{_apart(table)}", axes)


def _start_and_tuned(table: pd.DataFrame) -> pd.DataFrame:
    """Without the base in 16 bits, where the base in NF4 stands for it."""
    if BASE_NF4 not in set(table["model"]):
        return table
    return table[table["model"] != BASE]


def _apart(table: pd.DataFrame) -> str:
    """In words, the benchmark on which the values of the tuned model lie farthest apart."""
    tuned = table[table["model"] == TUNED]
    groups = [part.sort_values("acc_pct") for _, part in tuned.groupby("benchmark")]
    groups = [part for part in groups if len(part) > 1]
    if not groups:
        return ""
    widest = max(groups, key=lambda part: part["acc_pct"].iloc[-1] - part["acc_pct"].iloc[0])
    low, high = widest.iloc[0], widest.iloc[-1]
    overlap = low["high_pct"] >= high["low_pct"]
    said = " to ".join(f"{row.acc_pct:.0f} % ({names.benchmark(row.value)})" for row in (low, high))
    inside = ", intervals overlap" if overlap else ""
    return f": tuned on {names.benchmark(low['benchmark'])} {said}{inside}"


def confusion(answers: pd.DataFrame) -> Figure:
    """What each model answers to questions whose right answer is yes, no or maybe.

    Args:
        answers: rows of `frames.load` of PubMedQA, of one protocol and number of shots.
    """
    shown = _start_and_tuned(answers)
    options = list(shown["item"].iloc[0].options)
    columns = [*options, "unread"] if shown["choice"].isna().any() else options
    models = list(looks(shown["model"]))
    fig, axes = grid(len(models), 1.15, "answer", "right answer")
    for ax, model in zip(axes, models):
        _counts(ax, shown[shown["model"] == model], options, columns)
        ax.set_title(names.model(model))
    last = shown[shown["model"] == (TUNED if TUNED in models else models[-1])]
    right, total = int(last["correct"].sum()), len(last)
    model = names.model(last["model"].iloc[0])
    return titled(
        fig, f"PubMedQA: {model} answers {right} of {total} right{_mistaken(last, options)}"
    )


def _mistaken(answers: pd.DataFrame, options: list[str]) -> str:
    """In words, what is never answered, or else the commonest mistake."""
    never = [word for place, word in enumerate(options) if not (answers["choice"] == place).any()]
    if never:
        return f", and never says {' or '.join(never)}"
    wrong = answers[~answers["correct"].astype(bool)].dropna(subset="choice")
    if wrong.empty:
        return ""
    gold, choice = wrong.groupby(["gold", "choice"]).size().idxmax()
    return f"; its commonest mistake is {options[int(choice)]} for {options[int(gold)]}"


def _counts(ax, answers: pd.DataFrame, options: list[str], columns: list[str]) -> None:
    """A field for each pair of right answer and answer, shaded by its share of the row."""
    chosen = answers["choice"].fillna(len(options)).astype(int)
    counts = pd.crosstab(answers["gold"], chosen)
    counts = counts.reindex(
        index=range(len(options)), columns=range(len(columns)), fill_value=0
    ).to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", lw=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "0.2"
        weight = "bold" if row == column else "normal"
        ax.text(
            column + 0.5,
            row + 0.5,
            f"{count:,}",
            color=colour,
            weight=weight,
            ha="center",
            va="center",
        )
    labels = [f"{word}\nn = {size:,}" for word, size in zip(options, counts.sum(axis=1))]
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(options)) + 0.5, labels)
    ax.set(xlim=(0, len(columns)), ylim=(len(options), 0))
    ax.grid(visible=False)


def coverage(table: pd.DataFrame) -> Figure:
    """Accuracy of the surest answers against how many of the questions are answered.

    Args:
        table: `coverage.coverage` of one protocol and number of shots.
    """
    if table.empty:
        return nothing("Accuracy against coverage: written replies have no confidence")
    table = _start_and_tuned(table)
    styles = looks(table["model"])
    count = table["benchmark"].nunique()
    fig, axes = grid(count, 1.5, "share answered, surest first (%)", "accuracy (%)")
    for ax, (name, panel) in zip(axes, table.groupby("benchmark", sort=False)):
        ax.set(title=names.benchmark(name), xlim=(0, 103), ylim=(0, 103))
        for model, part in panel.groupby("model"):
            colour, marker = styles[model]
            x = part["coverage_pct"]
            ax.fill_between(x, part["low_pct"], part["high_pct"], color=colour, alpha=0.15, lw=0)
            ax.plot(x, part["acc_pct"], color=colour, marker=marker, ms=3, label=names.model(model))
    return titled(fig, f"Accuracy of the surest answers{_worth(table)}", axes)


def _worth(table: pd.DataFrame) -> str:
    """In words, the benchmark on which the surest half of the tuned model's answers gains most."""
    tuned = table[table["model"] == TUNED]
    half, whole = (
        tuned[tuned["coverage_pct"] == share].set_index("benchmark")["acc_pct"]
        for share in (HALF, 100)
    )
    gains = (half - whole).dropna()
    if gains.empty:
        return ""
    name = gains.idxmax()
    where = f"of tuned on {names.benchmark(name)}"
    return f": the surest half {where} is {half[name]:.0f} % right, all are {whole[name]:.0f} %"
