"""The pictures of a study: one look and one way to be saved, then each picture, whose title the numbers wrote.

Saving is byte-stable (no date, no version, fixed hash salt), and each picture carries its provenance: as a
line under the drawing and in the file's metadata, where the report finds it.
"""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from sm70lib.analysis import quoted
from sm70lib.analysis.drawing import GREY, KINDS, WIDTH, dots, grid, looks, nothing, titled
from sm70lib.analysis.frames import AFTER
from sm70lib.protocols.replies import NO_SCORE


def draw_loss(ax, metrics) -> None:
    """Loss, and `eval_loss` where measured, in nats per token against optimiser steps (`step`)."""
    for column, label, colour, marker in (
        ("loss", "training", "C0", ""),
        ("eval_loss", "held out", "C2", "D"),
    ):
        seen = metrics.dropna(subset=column) if column in metrics else metrics[:0]
        if len(seen):
            ax.plot(seen["step"], seen[column], color=colour, marker=marker, ms=3.5, label=label)
    if len(ax.get_lines()) > 1:
        ax.legend(loc="upper right")
    ax.set(xlabel="optimiser step", ylabel="loss (nats per token)", ymargin=0.1)


def loss_curve(metrics, title: str) -> Figure:
    """`draw_loss` as a figure of its own."""
    fig, (ax,) = grid(1, 2)
    draw_loss(ax, metrics)
    plt.close(fig)  # a cell that ends with the figure then shows it once, not twice
    return titled(fig, title)


def live_loss() -> Callable[[pd.DataFrame], None]:
    """A watcher for `train.run` that redraws the loss curve in its place when there is a new row."""
    handle, seen = display(display_id=True), [0]

    def show(metrics: pd.DataFrame) -> None:
        if len(metrics) > seen[0]:
            seen[0] = len(metrics)
            handle.update(loss_curve(metrics, "Training, as it goes"))

    return show


# ---- the pictures -----------------------------------------------------------------------------------


def accuracy(found: pd.DataFrame, quotes: pd.DataFrame) -> Figure:
    """Every model on every benchmark with interval, the best constant guesser, quoted values as open marks.

    Args:
        found: one protocol and number of shots of `tables.results`.
        quotes: rows of quoted.csv to be drawn, where they have, or may have, these shots. The mean
            over the USMLE steps has a line of its own where it is among them.
    """
    quotes = quoted.fitting(quoted.usable(quotes), list(found["shots"].unique()))
    whole = found[found["subset"] == "all"]
    macro = whole["benchmark"].eq("usmle_macro") & whole["benchmark"].isin(quotes["benchmark"])
    table = pd.concat([_whole(whole), whole[macro]])
    fig, (ax,) = panels(table.assign(panel=""), "panel", "benchmark")
    lines = list(dict.fromkeys(table["benchmark"]))
    quotes = quotes[quotes["benchmark"].isin(lines)]
    for (system, part), marker in zip(quotes.groupby("system"), "op*hdv<>"):
        ax.plot(
            part["value_pct"],
            [lines.index(name) + 0.41 for name in part["benchmark"]],
            ls="",
            marker=marker,
            mfc="white",
            mec="black",
            ms=5,
            label=f"{system} (quoted)",
        )
    return titled(fig, _finding(_whole(table), "benchmarks"), [ax])


def kinds(found: pd.DataFrame) -> Figure:
    """The held-out kinds of the generated world apart, a panel for each benchmark."""
    table = _whole(found[found["subset"].isin(KINDS)]).sort_values(
        "subset", key=lambda x: x.map(KINDS.index)
    )
    fig, axes = panels(table, "benchmark", "subset")
    return titled(fig, _finding(table, "held-out slices"), axes)


def protocols(found: pd.DataFrame) -> Figure:
    """The same benchmarks asked in several ways: how much of a score is the protocol."""
    table = _whole(found[found["subset"] == "all"])
    table = table.assign(asked=table["protocol"] + ", " + table["shots"].astype(str) + "-shot")
    several = table.groupby("benchmark")["asked"].transform("nunique") > 1
    fig, axes = panels(table[several], "benchmark", "asked")
    return titled(fig, "The same questions, asked in several ways", axes)


def _whole(found: pd.DataFrame) -> pd.DataFrame:
    """Without the single USMLE steps and their macro mean, which have a table."""
    return found[~found["benchmark"].str.contains("_step|_macro")]


def _finding(table: pd.DataFrame, places: str) -> str:
    """On how many `places`, of those with a score, tuned lies above the best constant guesser."""
    tuned = table[table["model"] == AFTER]
    scored = tuned.dropna(subset="acc_pct")
    above = (scored["low_pct"] > scored["best_constant_pct"]).sum()
    counted = f"{above} of {len(scored)} {places}"
    if len(scored) == len(tuned):
        return f"Tuned stands above the best constant guesser on {counted}"
    without = f"has {NO_SCORE} on {len(tuned) - len(scored)}"
    if scored.empty:
        return f"Tuned {without} {places}"
    return f"Tuned beats the best guesser on {counted}, {without}"  # as long as a title can be


def panels(table: pd.DataFrame, column: str, line: str) -> tuple[Figure, list]:
    """Accuracies: a panel for each value of `column`, a line for each of `line`, a mark for each model."""
    names, lines = (list(dict.fromkeys(table[name])) for name in (column, line))
    fig, axes = grid(len(names), 0.5 + 0.46 * len(lines), "accuracy and interval (%)")
    for ax, name in zip(axes, names):
        ax.set_title(name)
        _panel(ax, table[table[column] == name], lines, line)
    sizes = [table.loc[table[line] == name, "n"].unique() for name in lines]
    axes[0].set(
        yticks=range(len(lines)),
        ylim=(len(lines) - 0.5, -0.5),
        xlim=(0, 100),
        yticklabels=[
            f"{name}\nn = {n[0]:,}" if len(n) == 1 else name for name, n in zip(lines, sizes)
        ],
    )
    return fig, axes


def _panel(ax, table: pd.DataFrame, lines: list[str], line: str) -> None:
    styles = looks(table["model"])
    for number, (model, look) in enumerate(styles.items()):
        part, shift = table[table["model"] == model], 0.2 * (number - (len(styles) - 1) / 2)
        dots(ax, part, [lines.index(name) + shift for name in part[line]], look, model)
    guess = table.drop_duplicates(line)
    y = np.array([lines.index(name) for name in guess[line]])
    ax.vlines(
        guess["best_constant_pct"], y - 0.35, y + 0.35, "black", lw=1, label="best constant guesser"
    )


def training(metrics: pd.DataFrame) -> Figure:
    """One stage of tuning against optimiser steps: loss, held-out loss, learning rate."""
    held = metrics["eval_loss"].dropna().to_numpy() if "eval_loss" in metrics else []
    title = (
        f"Held-out loss: {held[0]:.2f} to {held[-1]:.2f} nats per token"
        if len(held) > 1
        else "Training"
    )
    fig, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(WIDTH, 3.6), height_ratios=(2, 1))
    draw_loss(top, metrics)
    rates = metrics.dropna(subset="learning_rate")
    bottom.plot(rates["step"], rates["learning_rate"], color=GREY)
    bottom.set(xlabel=top.get_xlabel(), ylabel="learning rate")
    top.set_xlabel("")
    return titled(fig, title)


def memory(table: pd.DataFrame) -> Figure:
    """Planned and measured megabytes of each part of the loaded model."""
    fig, (ax,) = grid(1, 0.3 + 0.4 * len(table), "MB (2^20 bytes)")
    for shift, column, colour in ((-0.19, "planned_mb", "0.75"), (0.19, "measured_mb", "C0")):
        y, widths = np.arange(len(table)) + shift, table[column].fillna(0)
        drawn = ax.barh(y, widths, 0.36, color=colour, label=column.removesuffix("_mb"))
        ax.bar_label(
            drawn, ["" if pd.isna(value) else f"{value:,.4g}" for value in table[column]], padding=3
        )
    ax.set(yticks=range(len(table)), yticklabels=table["part"], ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)
    return titled(fig, "Memory of the loaded model, planned and measured", [ax])


def contamination(table: pd.DataFrame) -> Figure:
    """Share of each benchmark's items that stand in each training source, in any of the audit's senses."""
    share = table.assign(share=100 * table["any"] / table["items"]).pivot(
        index="source", columns="benchmark", values="share"
    )
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
    found = f"{(table['any'] > 0).sum()} of {len(table)} pairs overlap"
    return titled(fig, f"Benchmark items in the training sources (% of items): {found}")


def flips(table: pd.DataFrame) -> Figure:
    """Answers gained (right) and lost (left) by tuning (percent of items), by benchmark and kind.

    Rows without a test, as most of their replies are unread, are left out and counted.
    """
    without, table = int(table["p"].isna().sum()), table.dropna(subset="p")
    if table.empty:
        why = f"{NO_SCORE}, most replies are unread" if without else "none to compare"
        return nothing(f"Answers gained and lost by tuning: {why}")
    labels = [f"{row.benchmark}, {row.kind} (n={row.n})" for row in table.itertuples()]
    fig, (ax,) = grid(
        1, 0.3 + 0.24 * len(table), "answers lost (left) and gained by tuning, % of n"
    )
    for name, sign, colour in (("gained", 1, "C0"), ("lost", -1, "C2")):
        drawn = ax.barh(labels, sign * 100 * table[name] / table["n"], color=colour)
        ax.bar_label(drawn, table[name].replace(0, ""), padding=3)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    text = f"; {NO_SCORE} in {without} more rows" if without else ""
    gained, lost = table["gained"].sum(), table["lost"].sum()
    return titled(fig, f"Tuning gained {gained} answers and lost {lost}{text}")


def reliability(bins: pd.DataFrame) -> Figure:
    """Accuracy against confidence, a panel for each benchmark; marks grow with their number of answers."""
    if bins.empty:
        return nothing("Is confidence worth anything? Written replies have none")
    styles = looks(bins["model"])
    fig, axes = grid(bins["benchmark"].nunique(), 2, "confidence (%)", "accuracy (%)")
    for ax, (name, panel) in zip(axes, bins.groupby("benchmark")):
        ax.axline((0, 0), slope=1, color=GREY, lw=0.8, ls=":")
        ax.set(title=name, xlim=(0, 103), ylim=(0, 103))
        for model, part in panel.groupby("model"):
            (colour, marker), x, y = styles[model], part["confidence_pct"], part["acc_pct"]
            ax.plot(x, y, color=colour, lw=0.8)
            ax.scatter(x, y, 3 * part["n"] ** 0.5, colour, marker, label=model)
    return titled(fig, "Is confidence worth anything? On the dotted line it is exactly right", axes)
