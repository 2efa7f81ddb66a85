"""The pictures of a study. The title of each is written from its numbers."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from sm70lib.analysis import quoted
from sm70lib.analysis.drawing import GREY, KINDS, WIDTH, grid, looks, nothing, titled
from sm70lib.analysis.panels import panels
from sm70lib.analysis.roles import TUNED
from sm70lib.parameters import aggregates
from sm70lib.protocols.replies import NO_SCORE

PREFERENCES = {  # what a preference round logs besides its loss
    "rewards/accuracies": "pairs in the right order",
    "rewards/margins": "margin (nats)",
}


def draw_curve(ax, metrics, column: str, label: str) -> None:
    """Draws a measure, and the same on held-out rows where measured, against optimiser steps."""
    for name, word, colour, marker in (
        (column, "training", "C0", ""),
        (f"eval_{column}", "held out", "C2", "D"),
    ):
        measured = metrics.dropna(subset=name) if name in metrics else metrics[:0]
        if len(measured):
            steps, values = measured["step"], measured[name]
            ax.plot(steps, values, color=colour, marker=marker, ms=3.5, label=word)
    if len(ax.get_lines()) > 1:
        ax.legend(loc="upper right")
    ax.set(xlabel="optimiser step", ylabel=label, ymargin=0.1)


def _measures(metrics) -> dict[str, str]:
    """What a stage's metrics hold: the loss, and what PREFERENCES names; with labels."""
    there = {name: label for name, label in PREFERENCES.items() if name in metrics}
    return {"loss": "loss (nats per pair)" if there else "loss (nats per token)"} | there


def loss_curve(metrics, title: str) -> Figure:
    """The loss against optimiser steps; of a preference round also accuracy and margin."""
    measures = _measures(metrics)
    fig, axes = plt.subplots(
        len(measures), 1, sharex=True, squeeze=False, figsize=(WIDTH, 1 + 2 * len(measures))
    )
    for ax, (column, label) in zip(axes.flat, measures.items()):
        draw_curve(ax, metrics, column, label)
        ax.label_outer()
    plt.close(fig)  # else a cell that ends with the figure shows it twice
    return titled(fig, title)


def live_loss() -> Callable[[pd.DataFrame], None]:
    """A watcher for `train.run` that redraws the loss curve in place when there is a new row."""
    handle = display(display_id=True)
    drawn = 0

    def show(metrics: pd.DataFrame) -> None:
        nonlocal drawn
        if len(metrics) > drawn:
            drawn = len(metrics)
            handle.update(loss_curve(metrics, "Training, as it goes"))

    return show


def accuracy(found: pd.DataFrame, quotes: pd.DataFrame) -> Figure:
    """Every model on every benchmark, with interval, best constant guesser and quoted values.

    Args:
        found: `accuracies.results` of one protocol and number of shots.
        quotes: rows of quoted.csv; those that have, or may have, these shots are drawn as open
            marks. If the mean over the USMLE steps is among them, it gets a line of its own.
    """
    quotes = quoted.fitting(quoted.usable(quotes), list(found["shots"].unique()))
    whole = found[found["subset"] == "all"]
    means = [name for name in quotes["benchmark"] if aggregates.is_macro([name])]
    table = pd.concat([_whole(whole), whole[whole["benchmark"].isin(means)]])
    fig, (ax,) = panels(table.assign(panel=""), "panel", "benchmark")
    lines = list(dict.fromkeys(table["benchmark"]))
    quotes = quotes[quotes["benchmark"].isin(lines)]
    for (system, part), marker in zip(quotes.groupby("system"), "op*hdv<>"):
        heights = [lines.index(name) + 0.41 for name in part["benchmark"]]
        ax.plot(
            part["value_pct"],
            heights,
            ls="",
            marker=marker,
            mfc="white",
            mec="black",
            ms=5,
            label=f"{system} (quoted)",
        )
    return titled(fig, _finding(_whole(table), "benchmarks"), [ax])


def kinds(found: pd.DataFrame) -> Figure:
    """Each held-out kind of the generated world, in a panel for each benchmark."""
    table = _whole(found[found["subset"].isin(KINDS)])
    table = table.sort_values("subset", key=lambda subset: subset.map(KINDS.index))
    fig, axes = panels(table, "benchmark", "subset")
    return titled(fig, _finding(table, "held-out slices"), axes)


def protocols(found: pd.DataFrame) -> Figure:
    """The same benchmarks, asked in several ways: how much of a score is due to the protocol."""
    table = _whole(found[found["subset"] == "all"])
    table = table.assign(asked=table["protocol"] + ", " + table["shots"].astype(str) + "-shot")
    several = table.groupby("benchmark")["asked"].transform("nunique") > 1
    fig, axes = panels(table[several], "benchmark", "asked")
    return titled(fig, "The same questions, asked in several ways", axes)


def _whole(found: pd.DataFrame) -> pd.DataFrame:
    """The rows without the single USMLE steps and their macro mean, which have a table."""
    names = aggregates.names(found["benchmark"], [aggregates.POOLED], members=False)
    return found[found["benchmark"].isin(names)]


def _finding(table: pd.DataFrame, places: str) -> str:
    """In words, on how many of the scored `places` tuned is above the best constant guesser."""
    tuned = table[table["model"] == TUNED]
    scored = tuned.dropna(subset="acc_pct")
    above = (scored["low_pct"] > scored["best_constant_pct"]).sum()
    counted = f"{above} of {len(scored)} {places}"
    if len(scored) == len(tuned):
        return f"Tuned stands above the best constant guesser on {counted}"
    without = f"has {NO_SCORE} on {len(tuned) - len(scored)}"
    if scored.empty:
        return f"Tuned {without} {places}"
    return f"Tuned beats the best guesser on {counted}, {without}"  # a title cannot be longer


def training(metrics: pd.DataFrame) -> Figure:
    """One stage of tuning against optimiser steps: loss, held-out loss, learning rate.

    A preference round has two panels more, of the pairs in the right order and of their margin.
    """
    measures = _measures(metrics)
    heights = [2] * len(measures) + [1]
    fig, axes = plt.subplots(
        len(heights), 1, sharex=True, figsize=(WIDTH, 1.2 * sum(heights)), height_ratios=heights
    )
    for ax, (column, label) in zip(axes, measures.items()):
        draw_curve(ax, metrics, column, label)
        ax.set_xlabel("")
    rates = metrics.dropna(subset="learning_rate")
    axes[-1].plot(rates["step"], rates["learning_rate"], color=GREY)
    axes[-1].set(xlabel="optimiser step", ylabel="learning rate")
    return titled(fig, _course(metrics))


def _course(metrics: pd.DataFrame) -> str:
    """In words, how the held-out measure of a stage went.

    The order of pairs has no beginning: before a round both answers have a reward of 0.
    """
    held = {name: metrics[name].dropna().to_numpy() for name in metrics if "eval_" in name}
    right = held.get("eval_rewards/accuracies", [])
    if len(right):
        return f"At the end {right[-1]:.0%} of the held-out pairs are in the right order"
    loss = held.get("eval_loss", [])
    if len(loss) > 1:
        return f"Held-out loss: {loss[0]:.2f} to {loss[-1]:.2f} nats per token"
    return "Training"


def memory(table: pd.DataFrame) -> Figure:
    """Planned and measured megabytes of each part of the loaded model."""
    fig, (ax,) = grid(1, 0.3 + 0.4 * len(table), "MB (2^20 bytes)")
    for shift, column, colour in ((-0.19, "planned_mb", "0.75"), (0.19, "measured_mb", "C0")):
        y = np.arange(len(table)) + shift
        widths = table[column].fillna(0)
        bars = ax.barh(y, widths, 0.36, color=colour, label=column.removesuffix("_mb"))
        labels = ["" if pd.isna(value) else f"{value:,.4g}" for value in table[column]]
        ax.bar_label(bars, labels, padding=3)
    ax.set(yticks=range(len(table)), yticklabels=table["part"], ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)
    return titled(fig, "Memory of the loaded model, planned and measured", [ax])


def contamination(table: pd.DataFrame) -> Figure:
    """Share of each benchmark's items found in each training source, by any test of the audit."""
    shares = table.assign(share=100 * table["any"] / table["items"])
    share = shares.pivot(index="source", columns="benchmark", values="share")
    fig, (ax,) = grid(1, 0.6 + 0.28 * len(share))
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(share.to_numpy()):
        ax.text(
            column,
            row,
            f"{value:.1f}" if value > 0 else "·",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value > 55 else "0.2",
        )
    ax.set_xticks(range(share.shape[1]), share.columns, rotation=30, ha="right")
    ax.set_yticks(range(len(share)), share.index)
    ax.grid(visible=False)
    overlap = f"{(table['any'] > 0).sum()} of {len(table)} pairs overlap"
    return titled(fig, f"Benchmark items in the training sources (% of items): {overlap}")


def flips(table: pd.DataFrame) -> Figure:
    """Answers gained (right) and lost (left) by tuning (percent of items), by benchmark and kind.

    Rows without a test, because most replies are unread, are left out; the title counts them.
    """
    without = int(table["p"].isna().sum())
    table = table.dropna(subset="p")
    if table.empty:
        why = f"{NO_SCORE}, most replies are unread" if without else "none to compare"
        return nothing(f"Answers gained and lost by tuning: {why}")
    labels = [f"{row.benchmark}, {row.kind} (n={row.n})" for row in table.itertuples()]
    xlabel = "answers lost (left) and gained by tuning, % of n"
    fig, (ax,) = grid(1, 0.3 + 0.24 * len(table), xlabel)
    for name, sign, colour in (("gained", 1, "C0"), ("lost", -1, "C2")):
        bars = ax.barh(labels, sign * 100 * table[name] / table["n"], color=colour)
        ax.bar_label(bars, table[name].replace(0, ""), padding=3)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    text = f"; {NO_SCORE} in {without} more rows" if without else ""
    gained, lost = table["gained"].sum(), table["lost"].sum()
    return titled(fig, f"Tuning gained {gained} answers and lost {lost}{text}")


def reliability(bins: pd.DataFrame) -> Figure:
    """Accuracy against confidence, a panel per benchmark; larger marks stand for more items."""
    if bins.empty:
        return nothing("Is confidence worth anything? Written replies have none")
    styles = looks(bins["model"])
    fig, axes = grid(bins["benchmark"].nunique(), 2, "confidence (%)", "accuracy (%)")
    for ax, (name, panel) in zip(axes, bins.groupby("benchmark")):
        ax.axline((0, 0), slope=1, color=GREY, lw=0.8, ls=":")
        ax.set(title=name, xlim=(0, 103), ylim=(0, 103))
        for model, part in panel.groupby("model"):
            colour, marker = styles[model]
            x, y = part["confidence_pct"], part["acc_pct"]
            ax.plot(x, y, color=colour, lw=0.8)
            ax.scatter(x, y, 3 * part["n"] ** 0.5, colour, marker, label=model)
    return titled(fig, "Is confidence worth anything? On the dotted line it is exactly right", axes)
