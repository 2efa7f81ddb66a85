"""One look for all figures, and one way to be saved."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.figure import Figure

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
    plt.style.use(
        [
            "default",
            f"seaborn-v0_8-{name}",
            {
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.edgecolor": GREY,
                "axes.titlesize": 9.5,
                "axes.titlelocation": "left",
                "axes.axisbelow": True,
                "axes.grid": True,
                "grid.color": "0.92",
                "xtick.color": "0.25",
                "ytick.color": "0.25",
                "font.size": 9,
                "font.family": "DejaVu Sans",
                "legend.frameon": False,
                "figure.constrained_layout.use": True,
                "figure.titlesize": 10.5,
                "figure.titleweight": "bold",
                "svg.hashsalt": "sm70",
            },
        ]
    )


def looks(models) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model: fixed for the usual three, the next free ones for others."""
    others = iter(OTHERS * len(models))
    return {model: MODELS.get(model) or next(others) for model in dict.fromkeys(models)}


def grid(count: int, height: float, xlabel: str = "", ylabel: str = "") -> tuple[Figure, list]:
    """A figure of `count` panels, at most three abreast, each `height` inches high; labels in the corner."""
    across = min(3, count)
    down = -(-count // across)
    fig, axes = plt.subplots(
        down, across, sharex=True, sharey=True, squeeze=False, figsize=(WIDTH, 1 + height * down)
    )
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
        fig.legend(
            marks.values(),
            marks.keys(),
            loc="lower left",
            bbox_to_anchor=(0, STRIP / height),
            ncols=across,
            fontsize=8,
            borderaxespad=0,
            labelspacing=0.4,
        )
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
    fig.text(
        0.008,
        STRIP / fig.get_figheight(),
        lines,
        va="top",
        fontsize=6.5,
        color=GREY,
        linespacing=1.3,
    )
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
    ax.plot(
        table["acc_pct"],
        y,
        ls="",
        marker=marker,
        color=colour,
        ms=5,
        mec="white",
        mew=0.6,
        label=label,
    )
