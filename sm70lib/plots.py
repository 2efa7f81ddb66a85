"""What every picture shares: one look, one way to be saved, and the few drawings that notebooks repeat.

Saving is byte-stable (no date, no version, fixed hash salt), and each picture carries its provenance: as a
line under the drawing and in the file's metadata, where the report finds it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

WIDTH = 6.4  # inches; at 9 points, text stays readable when a page sets the picture at column width
STRIP = 0.28  # inches at the foot, for two lines of provenance
GREY = "0.45"
# Colour never carries a difference alone. "C0" ... are the palette's colours, in matplotlib's notation.
MODELS = {"base": (GREY, "o"), "base-nf4": ("C0", "s"), "tuned": ("C2", "D")}
OTHERS = [("C1", "^"), ("C3", "v"), ("C5", "P"), ("C4", "X")]


def style(palette: str = "colorblind") -> None:
    """Sets the look of all following pictures; `palette` is one of seaborn's, which matplotlib ships."""
    name = "dark-palette" if palette == "dark" else palette
    plt.style.use(["default", f"seaborn-v0_8-{name}", {
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.titlesize": 9.5,
        "axes.titlelocation": "left", "axes.axisbelow": True, "axes.grid": True, "grid.color": "0.92",
        "xtick.color": "0.25", "ytick.color": "0.25", "font.size": 9, "font.family": "DejaVu Sans",
        "legend.frameon": False, "figure.constrained_layout.use": True, "figure.titlesize": 10.5,
        "figure.titleweight": "bold", "svg.hashsalt": "sm70"}])


def looks(models) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model: fixed for the usual three, the next free ones for others."""
    others = iter(OTHERS * len(models))
    return {model: MODELS.get(model) or next(others) for model in dict.fromkeys(models)}


def grid(count: int, height: float, xlabel: str = "", ylabel: str = "") -> tuple[Figure, list]:
    """A figure of `count` panels, at most three abreast, each `height` inches high; labels in the corner."""
    across = min(3, count)
    down = -(-count // across)
    fig, axes = plt.subplots(down, across, sharex=True, sharey=True, squeeze=False,
                             figsize=(WIDTH, 1 + height * down))
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    axes[-1, 0].set(xlabel=xlabel, ylabel=ylabel)
    return fig, list(axes.flat[:count])


def titled(fig: Figure, title: str, legend=()) -> Figure:
    """The figure under a left-aligned title, above its provenance and the legend of the axes in `legend`."""
    marks = {label: mark for ax in legend for mark, label in zip(*ax.get_legend_handles_labels())}
    height, rows = fig.get_figheight(), -(-len(marks) // 4)
    foot = (STRIP + 0.2 * rows) / height
    fig.suptitle(title, x=0.005, ha="left")
    fig.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
    if marks:
        fig.legend(marks.values(), marks.keys(), loc="lower left", bbox_to_anchor=(0, STRIP / height),
                   ncols=4, fontsize=8, borderaxespad=0, labelspacing=0.4)
    return fig


def save(fig: Figure, folder: Path, name: str, provenance: str, dpi: int = 150) -> Image:
    """Writes `<name>.png` and `.svg` with the provenance line; returns the picture for the notebook."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = textwrap.fill(provenance, 130)
    fig.text(0.008, STRIP / fig.get_figheight(), lines, va="top", fontsize=6.5, color=GREY, linespacing=1.3)
    about = {"Title": fig.get_suptitle(), "Description": provenance}
    fig.savefig(folder / f"{name}.png", dpi=dpi, metadata=about | {"Software": None})
    fig.savefig(folder / f"{name}.svg", metadata=about | {"Date": None, "Creator": None})
    plt.close(fig)
    return Image(filename=folder / f"{name}.png", width=700, alt=about["Title"])


def dots(ax, table, y, look: tuple[str, str], label: str = "") -> None:
    """Accuracies with their intervals (`acc_pct`, `low_pct`, `high_pct`) at heights `y`, in percent."""
    colour, marker = look
    ax.hlines(y, table["low_pct"], table["high_pct"], color=colour, lw=1.6)
    ax.plot(table["acc_pct"], y, ls="", marker=marker, color=colour, ms=5, mec="white", mew=0.6, label=label)


def draw_loss(ax, metrics) -> None:
    """Loss, and `eval_loss` where measured, in nats per token against optimiser steps (`step`)."""
    for column, label, colour, marker in (("loss", "training", "C0", ""), ("eval_loss", "held out", "C2", "D")):
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
