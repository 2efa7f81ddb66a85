"""Accuracies of several models in panels, which most figures of results share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sm70lib.analysis.drawing import dots, grid, looks


def panels(table: pd.DataFrame, column: str, line: str) -> tuple[Figure, list]:
    """Accuracies: a panel per value of `column`, a line per value of `line`, a mark per model.

    Args:
        table: rows of `accuracies.results`.
        column: the column that tells the panels apart.
        line: the column that tells the lines of a panel apart.

    Returns:
        The figure and its panels.
    """
    names = list(dict.fromkeys(table[column]))
    lines = list(dict.fromkeys(table[line]))
    fig, axes = grid(len(names), 0.5 + 0.46 * len(lines), "accuracy and interval (%)")
    for ax, name in zip(axes, names):
        ax.set_title(name)
        _panel(ax, table[table[column] == name], lines, line)
    labels = []
    for name in lines:
        sizes = table.loc[table[line] == name, "n"].unique()
        labels.append(f"{name}\nn = {sizes[0]:,}" if len(sizes) == 1 else name)
    axes[0].set(
        yticks=range(len(lines)),
        ylim=(len(lines) - 0.5, -0.5),
        xlim=(0, 100),
        yticklabels=labels,
    )
    return fig, axes


def _panel(ax, table: pd.DataFrame, lines: list[str], line: str) -> None:
    styles = looks(table["model"])
    for number, (model, look) in enumerate(styles.items()):
        part = table[table["model"] == model]
        shift = 0.2 * (number - (len(styles) - 1) / 2)
        heights = [lines.index(name) + shift for name in part[line]]
        dots(ax, part, heights, look, model)
    guess = table.drop_duplicates(line)
    y = np.array([lines.index(name) for name in guess[line]])
    ax.vlines(
        guess["best_constant_pct"], y - 0.35, y + 0.35, "black", lw=1, label="best constant guesser"
    )
