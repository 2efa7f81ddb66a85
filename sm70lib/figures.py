"""The pictures of a study; each takes a table, returns a figure, and has a title that the numbers wrote."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sm70lib import plots
from sm70lib.tables import AFTER, CLAIMS

KINDS = ["known", "fact", "condition"]  # from asked in tuning to never mentioned in it


def accuracy(found: pd.DataFrame, quotes: pd.DataFrame) -> Figure:
    """Every model on every benchmark with interval, the best constant guesser, quoted values as open marks.

    `found` holds one protocol and number of shots of `tables.results`; only quotes of the same shots are
    drawn, those for the mean over the USMLE steps beside our pooled USMLE.
    """
    table = _whole(found[found["subset"] == "all"])
    fig, (ax,) = panels(table.assign(panel=""), "panel", "benchmark")
    lines = list(dict.fromkeys(table["benchmark"]))
    quotes = quotes.replace({"benchmark": {"usmle_macro": "usmle"}})
    quotes = quotes[quotes["system"].isin(CLAIMS) & quotes["shots"].isin(table["shots"])
                    & quotes["benchmark"].isin(lines)]
    for (system, part), marker in zip(quotes.groupby("system"), "op*h"):
        ax.plot(part["value_pct"], [lines.index(name) + 0.41 for name in part["benchmark"]], ls="",
                marker=marker, mfc="white", mec="black", ms=5, label=f"{system} (quoted)")
    return plots.titled(fig, f"{_finding(table)} benchmarks", [ax])


def kinds(found: pd.DataFrame) -> Figure:
    """The held-out kinds of the generated world apart, a panel for each benchmark."""
    table = _whole(found[found["subset"].isin(KINDS)]).sort_values("subset", key=lambda x: x.map(KINDS.index))
    fig, axes = panels(table, "benchmark", "subset")
    return plots.titled(fig, f"{_finding(table)} held-out slices", axes)


def protocols(found: pd.DataFrame) -> Figure:
    """The same benchmarks asked in several ways: how much of a score is the protocol."""
    table = _whole(found[found["subset"] == "all"])
    table = table.assign(asked=table["protocol"] + ", " + table["shots"].astype(str) + "-shot")
    several = table.groupby("benchmark")["asked"].transform("nunique") > 1
    fig, axes = panels(table[several], "benchmark", "asked")
    return plots.titled(fig, "The same questions, asked in several ways", axes)


def _whole(found: pd.DataFrame) -> pd.DataFrame:
    """Without the single USMLE steps and their macro mean, which have a table."""
    return found[~found["benchmark"].str.contains("_step|_macro")]


def _finding(table: pd.DataFrame) -> str:
    """Where the tuned model's interval lies above the best constant guesser, counted."""
    tuned = table[table["model"] == AFTER]
    above = (tuned["low_pct"] > tuned["best_constant_pct"]).sum()
    return f"Tuned stands above the best constant guesser on {above} of {len(tuned)}"


def panels(table: pd.DataFrame, column: str, line: str) -> tuple[Figure, list]:
    """Accuracies: a panel for each value of `column`, a line for each of `line`, a mark for each model."""
    names, lines = (list(dict.fromkeys(table[name])) for name in (column, line))
    fig, axes = plots.grid(len(names), 0.5 + 0.46 * len(lines), "accuracy and interval (%)")
    for ax, name in zip(axes, names):
        ax.set_title(name)
        _panel(ax, table[table[column] == name], lines, line)
    sizes = [table.loc[table[line] == name, "n"].unique() for name in lines]
    axes[0].set(yticks=range(len(lines)), ylim=(len(lines) - 0.5, -0.5), xlim=(0, 100), yticklabels=[
        f"{name}\nn = {n[0]:,}" if len(n) == 1 else name for name, n in zip(lines, sizes)])
    return fig, axes


def _panel(ax, table: pd.DataFrame, lines: list[str], line: str) -> None:
    looks = plots.looks(table["model"])
    for number, (model, look) in enumerate(looks.items()):
        part, shift = table[table["model"] == model], 0.2 * (number - (len(looks) - 1) / 2)
        plots.dots(ax, part, [lines.index(name) + shift for name in part[line]], look, model)
    guess = table.drop_duplicates(line)
    y = np.array([lines.index(name) for name in guess[line]])
    ax.vlines(guess["best_constant_pct"], y - 0.35, y + 0.35, "black", lw=1, label="best constant guesser")


def training(metrics: pd.DataFrame) -> Figure:
    """One stage of tuning against optimiser steps: loss, held-out loss, learning rate."""
    held = metrics["eval_loss"].dropna().to_numpy() if "eval_loss" in metrics else []
    title = f"Held-out loss: {held[0]:.2f} to {held[-1]:.2f} nats per token" if len(held) > 1 else "Training"
    fig, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(plots.WIDTH, 3.6), height_ratios=(2, 1))
    plots.draw_loss(top, metrics)
    rates = metrics.dropna(subset="learning_rate")
    bottom.plot(rates["step"], rates["learning_rate"], color=plots.GREY)
    bottom.set(xlabel=top.get_xlabel(), ylabel="learning rate")
    top.set_xlabel("")
    return plots.titled(fig, title)


def memory(table: pd.DataFrame) -> Figure:
    """Planned and measured megabytes of each part of the loaded model."""
    fig, (ax,) = plots.grid(1, 0.3 + 0.4 * len(table), "MB (2^20 bytes)")
    for shift, column, colour in ((-0.19, "planned_mb", "0.75"), (0.19, "measured_mb", "C0")):
        y, widths = np.arange(len(table)) + shift, table[column].fillna(0)
        drawn = ax.barh(y, widths, 0.36, color=colour, label=column.removesuffix("_mb"))
        ax.bar_label(drawn, ["" if pd.isna(value) else f"{value:,.4g}" for value in table[column]], padding=3)
    ax.set(yticks=range(len(table)), yticklabels=table["part"], ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)
    return plots.titled(fig, "Memory of the loaded model, planned and measured", [ax])


def contamination(table: pd.DataFrame) -> Figure:
    """Share of each benchmark's items that stand in each training source, in any of the audit's senses."""
    share = table.assign(share=100 * table["any"] / table["items"]).pivot(
        index="source", columns="benchmark", values="share")
    fig, (ax,) = plots.grid(1, 0.6 + 0.28 * len(share))
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(share.to_numpy()):
        ax.text(column, row, f"{value:.1f}" if value > 0 else "·", ha="center", va="center", fontsize=8,
                color="white" if value > 55 else "0.2")
    ax.set_xticks(range(share.shape[1]), share.columns, rotation=30, ha="right")
    ax.set_yticks(range(len(share)), share.index)
    ax.grid(visible=False)
    found = f"{(table['any'] > 0).sum()} of {len(table)} pairs overlap"
    return plots.titled(fig, f"Benchmark items in the training sources (% of items): {found}")
