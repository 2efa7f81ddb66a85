"""The pictures of a study: one look and one way to be saved, then each picture, whose title the numbers wrote.

Saving is byte-stable (no date, no version, fixed hash salt), and each picture carries its provenance: as a
line under the drawing and in the file's metadata, where the report finds it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

from sm70lib.analysis import quoted
from sm70lib.analysis.tables import AFTER
from sm70lib.protocols.replies import NO_SCORE
from sm70lib.study.params import rehearsal

WIDTH = 6.4  # inches; at 9 points, text stays readable when a page sets the picture at column width
STRIP = 0.28  # inches at the foot, for two lines of provenance
GREY = "0.45"
# Colour never carries a difference alone. "C0" ... are the palette's colours, in matplotlib's notation.
MODELS = {"base": (GREY, "o"), "base-nf4": ("C0", "s"), "tuned": ("C2", "D")}
OTHERS = [("C1", "^"), ("C3", "v"), ("C5", "P"), ("C4", "X")]
KINDS = ["known", "fact", "condition"]  # from asked in tuning to never mentioned in it


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
    fig, axes = plt.subplots(down, across, sharex=True, sharey=True, squeeze=False, figsize=(WIDTH, 1 + height * down))
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    axes[-1, 0].set(xlabel=xlabel, ylabel=ylabel)
    return fig, list(axes.flat[:count])


def titled(fig: Figure, title: str, legend=()) -> Figure:
    """The figure under a left-aligned title, above its provenance and the legend of the axes in `legend`."""
    marks = {label: mark for ax in legend for mark, label in zip(*ax.get_legend_handles_labels())}
    longest = max(map(len, marks), default=0)
    across = 4 if longest <= 22 else 3 if longest <= 32 else 2  # what WIDTH has room for
    height, rows = fig.get_figheight(), -(-len(marks) // across)
    foot = (STRIP + 0.2 * rows) / height
    fig.suptitle(title, x=0.005, ha="left")
    fig.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
    if marks:
        fig.legend(marks.values(), marks.keys(), loc="lower left", bbox_to_anchor=(0, STRIP / height),
                   ncols=across, fontsize=8, borderaxespad=0, labelspacing=0.4)
    return fig


def nothing(title: str) -> Figure:
    """A picture of its title alone, where there is nothing to draw."""
    fig, (ax,) = grid(1, 0.2)
    ax.set_visible(False)
    return titled(fig, title)


def save(fig: Figure, folder: Path, name: str, provenance: str, dpi: int = 150) -> Image:
    """Writes `<name>.png` and `.svg` with the provenance line; returns the picture for the notebook.

    `folder` is outputs/<study>/figures; a rehearsed study's pictures say that it is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    provenance = f"{rehearsal(folder.parent.name)} {provenance}".lstrip()
    lines = textwrap.fill(provenance, 130)
    fig.text(0.008, STRIP / fig.get_figheight(), lines, va="top", fontsize=6.5, color=GREY, linespacing=1.3)
    about = {"Title": fig.get_suptitle(), "Description": provenance}
    fig.savefig(folder / f"{name}.png", dpi=dpi, metadata=about | {"Software": None})
    fig.savefig(folder / f"{name}.svg", metadata=about | {"Date": None, "Creator": None})
    plt.close(fig)
    return Image(filename=folder / f"{name}.png", width=700, alt=about["Title"])


def dots(ax, table, y, look: tuple[str, str], label: str = "") -> None:
    """Accuracies with their intervals (`acc_pct`, `low_pct`, `high_pct`; percent) at heights `y`.

    Where there is no accuracy, it is said at the left edge.
    """
    (colour, marker), y, known = look, np.asarray(y, float), table["acc_pct"].notna().to_numpy()
    for height in y[~known]:
        ax.text(1, height, NO_SCORE, color=colour, fontsize=6.5, va="center")
    table, y = table[known], y[known]
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
        ax.plot(part["value_pct"], [lines.index(name) + 0.41 for name in part["benchmark"]], ls="",
                marker=marker, mfc="white", mec="black", ms=5, label=f"{system} (quoted)")
    return titled(fig, _finding(_whole(table), "benchmarks"), [ax])


def kinds(found: pd.DataFrame) -> Figure:
    """The held-out kinds of the generated world apart, a panel for each benchmark."""
    table = _whole(found[found["subset"].isin(KINDS)]).sort_values("subset", key=lambda x: x.map(KINDS.index))
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
    axes[0].set(yticks=range(len(lines)), ylim=(len(lines) - 0.5, -0.5), xlim=(0, 100), yticklabels=[
        f"{name}\nn = {n[0]:,}" if len(n) == 1 else name for name, n in zip(lines, sizes)])
    return fig, axes


def _panel(ax, table: pd.DataFrame, lines: list[str], line: str) -> None:
    styles = looks(table["model"])
    for number, (model, look) in enumerate(styles.items()):
        part, shift = table[table["model"] == model], 0.2 * (number - (len(styles) - 1) / 2)
        dots(ax, part, [lines.index(name) + shift for name in part[line]], look, model)
    guess = table.drop_duplicates(line)
    y = np.array([lines.index(name) for name in guess[line]])
    ax.vlines(guess["best_constant_pct"], y - 0.35, y + 0.35, "black", lw=1, label="best constant guesser")


def training(metrics: pd.DataFrame) -> Figure:
    """One stage of tuning against optimiser steps: loss, held-out loss, learning rate."""
    held = metrics["eval_loss"].dropna().to_numpy() if "eval_loss" in metrics else []
    title = f"Held-out loss: {held[0]:.2f} to {held[-1]:.2f} nats per token" if len(held) > 1 else "Training"
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
        ax.bar_label(drawn, ["" if pd.isna(value) else f"{value:,.4g}" for value in table[column]], padding=3)
    ax.set(yticks=range(len(table)), yticklabels=table["part"], ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)
    return titled(fig, "Memory of the loaded model, planned and measured", [ax])


def contamination(table: pd.DataFrame) -> Figure:
    """Share of each benchmark's items that stand in each training source, in any of the audit's senses."""
    share = table.assign(share=100 * table["any"] / table["items"]).pivot(
        index="source", columns="benchmark", values="share")
    fig, (ax,) = grid(1, 0.6 + 0.28 * len(share))
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(share.to_numpy()):
        ax.text(column, row, f"{value:.1f}" if value > 0 else "·", ha="center", va="center", fontsize=8,
                color="white" if value > 55 else "0.2")
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
    fig, (ax,) = grid(1, 0.3 + 0.24 * len(table), "answers lost (left) and gained by tuning, % of n")
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
