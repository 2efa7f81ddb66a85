"""Two studies beside each other, as pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sm70lib.analysis.drawing import GREY, PAGE, grid, nothing, titled
from sm70lib.presentation import names

MINE, OTHERS = ("C2", "D"), ("C0", "s")  # colour and marker of this study, and of the other
TENTHS = 10  # parts of a course; the training loss is shown as the mean over one of them
LOSSES = {"loss": ("training", "-", ""), "eval_loss": ("held out", "--", "o")}


def differences(table: pd.DataFrame, study: str, other: str) -> Figure:
    """How far two studies lie apart on the same items, with intervals.

    Args:
        table: `scores.paired`.
        study: the study that is shown.
        other: the study that is subtracted.
    """
    table = table.dropna(subset="difference_pts")
    if table.empty:
        return nothing(f"{study} and {other} have no answers to the same items")
    labels = [
        f"{names.model(row.model)}, {names.benchmark(row.benchmark)}\n{row.protocol}, n = {row.n:,}"
        for row in table.itertuples()
    ]
    fig, (ax,) = grid(1, 0.3 + 0.3 * len(table), "difference (points)")
    y = np.arange(len(table))
    ax.axvline(0, color=GREY, lw=0.8)
    ax.hlines(y, table["low_pts"], table["high_pts"], color="black", lw=1.2)
    ax.plot(table["difference_pts"], y, ls="", marker="D", color="black", ms=4)
    ax.set(yticks=y, yticklabels=labels, ylim=(len(table) - 0.5, -0.5))
    apart = (table["low_pts"] > 0) | (table["high_pts"] < 0)
    return titled(fig, f"{study} minus {other}: {apart.sum()} of {len(table)} scores differ")


def courses(folder: Path, other: Path) -> Figure:
    """The losses of both studies, a panel for each stage that either of them has.

    Args:
        folder: outputs/<study>.
        other: the folder of the other study.
    """
    stages = [_stages(each) for each in (folder, other)]
    every = sorted({*stages[0], *stages[1]})
    if not every:
        return nothing(f"{folder.name} and {other.name} trained no stage")
    size = (PAGE, 2.6)
    fig, axes = plt.subplots(1, len(every), squeeze=False, figsize=size)
    ends = []
    for ax, stage in zip(axes[0], every):
        ax.set(title=f"stage {stage}", xlabel="optimiser step")
        for name, found, look in zip((folder.name, other.name), stages, (MINE, OTHERS)):
            if stage in found:
                ends += _course(ax, found[stage], look, name)
    axes[0][0].set_ylabel("loss (nats)")
    one = len(every) == 1  # the numbers of several stages would not fit into a title
    said = f": held-out loss at the end {names.listed(ends)}" if ends and one else ""
    return titled(fig, f"Training of {folder.name} beside {other.name}{said}", axes[0])


def _stages(folder: Path) -> dict[str, pd.DataFrame]:
    """The metrics of every stage, by its name."""
    paths = sorted(folder.glob("stages/*/metrics.jsonl"))
    return {path.parent.name: pd.read_json(path, lines=True) for path in paths}


def _course(ax, metrics: pd.DataFrame, look: tuple[str, str], name: str) -> list[str]:
    """Draws one study's losses of a stage; gives the last held-out loss in words."""
    colour, _ = look
    ends = []
    for column, (word, style, marker) in LOSSES.items():
        measured = metrics.dropna(subset=column) if column in metrics else metrics[:0]
        if len(measured):
            steps, values = measured["step"], measured[column]
            window = 1
            if column == "loss":  # single batches are noisy
                ax.plot(steps, values, color=colour, lw=0.6, alpha=0.35)
                window = max(1, len(values) // TENTHS)
            mean = values.rolling(window, min_periods=1).mean()
            label = f"{name}, {word}"
            ax.plot(steps, mean, style, color=colour, marker=marker, ms=3, label=label)
            if column == "eval_loss":
                ends.append(f"{values.iloc[-1]:.2f} ({name})")
    return ends
