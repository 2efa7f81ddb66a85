"""Figures of several panels: accuracies of several models, and what their confidence is worth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sm70lib.analysis.drawing import GREY, MODELS, OTHERS, dots, grid, looks, nothing, titled
from sm70lib.analysis.roles import BASE, BASE_NF4
from sm70lib.presentation import names

MOST_MODELS, MOST_PANELS = len(MODELS) + len(OTHERS), 12  # of a figure: each has a look
TOGETHER, MOST_BESIDE = 3, 6  # models of one panel of confidence; else each has its own panel
TALLEST = 9.0  # inches of a panel: a page
NOUNS = {"model": "models", "benchmark": "benchmarks", "asked": "ways", "subset": "slices"}
FEWEST = 10  # answers in a tenth of confidence that is drawn
EMPTY = {"x": 2, "fontsize": 7, "color": GREY, "va": "center", "style": "italic"}


def fit(
    table: pd.DataFrame, column: str, line: str, most: int = MOST_MODELS
) -> tuple[pd.DataFrame, str]:
    """The models, lines and panels that can be told apart in one figure.

    The study's own models come first, then the best ones. Lines and panels stay in their order.

    Args:
        table: rows of `accuracies.results`.
        column: the column that tells the panels apart.
        line: the column that tells the lines of a panel apart.
        most: models that fit.

    Returns:
        Their rows, and what a title adds to say how many there are besides; "" if all fit.
    """
    best = table.groupby("model", sort=False)["acc_pct"].mean().sort_values(ascending=False)
    models = [name for name in MODELS if name in best.index]
    models += [name for name in best.index if name not in MODELS]
    lines, found = list(dict.fromkeys(table[line])), list(dict.fromkeys(table[column]))
    few = min(len(models), most)
    fitting = lines[: int((TALLEST - 0.5) / (0.22 + 0.08 * few))]
    chosen = {"model": models[:few], line: fitting, column: found[:MOST_PANELS]}
    every = {"model": models, line: lines, column: found}
    said = [
        f"{len(chosen[name])} of {len(every[name])} {NOUNS.get(name, name)}"
        for name in chosen
        if len(chosen[name]) < len(every[name])
    ]
    kept = np.logical_and.reduce([table[name].isin(chosen[name]) for name in chosen])
    return table[kept], f"; shown are {' and '.join(said)}" if said else ""


def _height(models: int, lines: int) -> float:
    """The height of a panel (inches)."""
    return 0.5 + (0.22 + 0.08 * models) * lines


def panels(
    table: pd.DataFrame, column: str, line: str, missing: str = "not asked"
) -> tuple[Figure, list]:
    """Accuracies: a panel per value of `column`, a line per value of `line`, a mark per model.

    Args:
        table: rows of `accuracies.results`; without `best_constant_pct` no guesser is drawn.
        column: the column that tells the panels apart.
        line: the column that tells the lines of a panel apart.
        missing: what a line says that a panel does not have.

    Returns:
        The figure and its panels.
    """
    found = list(dict.fromkeys(table[column]))
    lines = list(dict.fromkeys(table[line]))
    height = _height(table["model"].nunique(), len(lines))
    fig, axes = grid(len(found), height, "accuracy and interval (%)")
    for ax, name in zip(axes, found):
        ax.set_title(names.benchmark(name))
        part = table[table[column] == name]
        _panel(ax, part, lines, line)
        there = set(part[line])
        for y, absent in enumerate(lines):  # in order, so that the file is the same each time
            if absent not in there:
                ax.text(y=y, s=missing, **EMPTY)
    labels = []
    for name in lines:
        sizes = table.loc[table[line] == name, "n"].unique()
        label = names.subset(names.benchmark(name)).replace(": ", "\n")
        labels.append(f"{label}\nn = {sizes[0]:,}" if len(sizes) == 1 else label)
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
        apart = min(0.2, 1 / len(styles))  # so that no line reaches into the next
        shift = apart * (number - (len(styles) - 1) / 2)
        heights = [lines.index(name) + shift for name in part[line]]
        dots(ax, part, heights, look, names.model(model))
    if "best_constant_pct" not in table:
        return
    guess = table.drop_duplicates(line)
    y = np.array([lines.index(name) for name in guess[line]])
    ax.vlines(
        guess["best_constant_pct"], y - 0.35, y + 0.35, "black", lw=1, label="best constant guesser"
    )


def reliability(bins: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Accuracy against confidence, a panel per benchmark, with intervals and calibration errors.

    More than TOGETHER models would hide one another: each has a panel per benchmark then.

    Args:
        bins: `slices.reliability`; tenths with fewer than FEWEST items are not drawn.
        scores: `slices.calibration` of the same runs.
    """
    if bins.empty:
        return nothing("Confidence against accuracy: written replies have no confidence")
    if BASE_NF4 in set(bins["model"]):  # which the base in 16 bits would hide
        bins, scores = (table[table["model"] != BASE] for table in (bins, scores))
    bins, left = fit(bins.assign(panel=""), "benchmark", "panel", MOST_BESIDE)
    scores = scores[scores["model"].isin(bins["model"])]
    styles = looks(bins["model"])
    apart = len(styles) > TOGETHER
    groups = [[model] for model in styles] if apart else [sorted(styles)]
    cells = list(product(dict.fromkeys(bins["benchmark"].sort_values()), groups))
    across, height = (len(groups), 0.85) if apart else (3, 1.6)
    fig, axes = grid(len(cells), height, "confidence (%)", "accuracy (%)", across)
    for ax, (name, models) in zip(axes, cells):
        ax.axline((0, 0), slope=1, color=GREY, lw=0.8, ls=":")
        ax.set(title=names.benchmark(name), xlim=(0, 103), ylim=(0, 103))
        errors = scores[scores["benchmark"] == name].set_index("model")["ece_pts"]
        panel = bins[(bins["benchmark"] == name) & bins["model"].isin(models)]
        for number, (model, part) in enumerate(panel.groupby("model")):
            _confidence(ax, part[part["n"] >= FEWEST], styles[model], names.model(model))
            _shares(ax, part, styles[model][0], number, 1 if apart else len(errors))
            said = f"ECE {errors[model]:.0f}"
            ink, height = ("0.2", 84) if apart else (styles[model][0], 94 - 10 * number)
            ax.text(4, height, said, color=ink, fontsize=7, va="center")
    return titled(fig, _errors(scores, many=apart) + left, axes)


def _confidence(ax, part: pd.DataFrame, look: tuple[str, str], label: str) -> None:
    """One model in one panel: its tenths of confidence with their intervals."""
    colour, marker = look
    x = part["confidence_pct"]
    ax.vlines(x, part["low_pct"], part["high_pct"], color=colour, lw=0.9, alpha=0.7)
    ax.plot(x, part["acc_pct"], color=colour, marker=marker, lw=0.7, ms=3.5, label=label)


def _shares(ax, part: pd.DataFrame, colour: str, number: int, models: int) -> None:
    """Bars at the foot: the share of a model's answers in each tenth of confidence (percent)."""
    width = 8 / models
    left = 10 * part["bin"] + 1 + number * width
    shares = 100 * part["n"] / part["n"].sum()
    ax.bar(left, shares, width, align="edge", color=colour, alpha=0.25, lw=0)


def _errors(scores: pd.DataFrame, many: bool) -> str:
    """The calibration error of every model, in words; of many, the least and the greatest one."""
    said = []
    if many:
        for place in (scores["ece_pts"].idxmin(), scores["ece_pts"].idxmax()):
            error, model, name = scores.loc[place, ["ece_pts", "model", "benchmark"]]
            said.append(f"{error:.0f} ({names.model(model)} on {names.benchmark(name)})")
        return f"Confidence against accuracy: calibration errors of {' to '.join(said)} points"
    for model, part in scores.groupby("model", sort=False)["ece_pts"]:
        least, most = f"{part.min():.0f}", f"{part.max():.0f}"
        said.append(f"{names.model(model)} {least if least == most else f'{least} to {most}'}")
    return f"Confidence against accuracy: calibration error (points) of {', '.join(said)}"
