"""One look for all figures, and one way to save them.

A figure is as wide as a column of a two-column page, or as the whole page, and its text has 7 to 9
points, so that it is printed without scaling.

Saving is byte-stable (no date, no version, fixed hash salt). Each picture carries its provenance
twice: as a line under the drawing, and in the file's metadata, where the report finds it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sm70lib.analysis.roles import ROLES
from sm70lib.protocols.replies import NO_SCORE
from sm70lib.study.files import write_bytes
from sm70lib.study.params import rehearsal

COLUMN, PAGE = 3.35, 6.9  # inches: the width of a column, and of a page
LINE, ENTRY = 0.15, 0.19  # inches, of a line of the title and of the legend
ROOM = 2  # lines of a legend for which a figure has room
GREY = "0.45"
MODELS = {role.name: (role.colour, role.marker) for role in ROLES}
# For further models, in this order
OTHERS = [("C1", "^"), ("C3", "v"), ("C5", "P"), ("C4", "X"), ("C1", "<"), ("C3", ">"), ("C5", "h")]
KINDS = ["known", "fact", "condition"]  # from "asked in tuning" to "never mentioned in it"


def style(palette: str = "colorblind", dpi: int = 100) -> None:
    """Sets the look of all following pictures.

    Args:
        palette: one of seaborn's palettes, as matplotlib ships them.
        dpi: dots per inch of pictures that a notebook shows and `save` does not write.
    """
    name = "dark-palette" if palette == "dark" else palette
    plt.style.use(
        [
            "default",
            f"seaborn-v0_8-{name}",
            {
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.edgecolor": GREY,
                "axes.titlesize": 8,
                "axes.labelsize": 8,
                "axes.titlelocation": "left",
                "axes.axisbelow": True,
                "axes.grid": True,
                "grid.color": "0.92",
                "xtick.color": "0.25",
                "ytick.color": "0.25",
                "font.size": 8,
                "xtick.labelsize": 7.5,
                "ytick.labelsize": 7.5,
                "legend.fontsize": 7.5,
                "lines.linewidth": 1.2,
                "font.family": "DejaVu Sans",
                "legend.frameon": False,
                "figure.constrained_layout.use": True,
                "figure.titlesize": 8.5,
                "figure.titleweight": "bold",
                "figure.dpi": dpi,
                "svg.hashsalt": "sm70",
            },
        ]
    )


def looks(models) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model: fixed for the study's own, the next free ones for others."""
    others = iter(OTHERS * len(models))
    chosen = {}
    for model in dict.fromkeys(models):
        chosen[model] = MODELS[model] if model in MODELS else next(others)
    return chosen


def grid(
    count: int, height: float, xlabel: str = "", ylabel: str = "", most: int = 3
) -> tuple[Figure, list]:
    """A figure of panels in rows; one panel alone is as wide as a column.

    Args:
        count: number of panels.
        height: height of each panel (inches).
        xlabel: label of the x axis, written once, at the lower left panel.
        ylabel: label of the y axis, written there too.
        most: panels in a row.

    Returns:
        The figure and its panels.
    """
    across = min(most, count)
    down = -(-count // across)
    size = (COLUMN if count == 1 else PAGE, 1.1 + height * down)
    fig, axes = plt.subplots(down, across, sharex=True, sharey=True, squeeze=False, figsize=size)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    axes[-1, 0].set(xlabel=xlabel, ylabel=ylabel)
    return fig, list(axes.flat[:count])


def titled(fig: Figure, title: str, legend=()) -> Figure:
    """Adds a left-aligned title above, and a legend and space for the provenance below.

    Args:
        fig: the figure.
        title: its title.
        legend: the axes whose labels the legend explains, each label once.

    Returns:
        The same figure.
    """
    marks = {label: mark for ax in legend for mark, label in zip(*ax.get_legend_handles_labels())}
    width = fig.get_figwidth()
    across = _legend_columns(marks, width)
    lines = textwrap.wrap(title, int(12.2 * width))
    rows = -(-len(marks) // across)
    height = fig.get_figheight() + LINE * (len(lines) - 1) + ENTRY * max(0, rows - ROOM)
    fig.set_figheight(height)
    foot = (strip(fig) + ENTRY * rows) / height
    fig.suptitle("\n".join(lines), x=0.005, ha="left", linespacing=1.25)
    engine = fig.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine), "style() was not called"
    engine.set(rect=(0, foot, 1, 1 - foot))
    if marks:
        fig.legend(
            marks.values(),
            marks.keys(),
            loc="lower left",
            bbox_to_anchor=(0, strip(fig) / height),
            ncols=across,
            borderaxespad=0,
            columnspacing=1.2,
            handletextpad=0.5,
            labelspacing=0.4,
        )
    return fig


def strip(fig: Figure) -> float:
    """The height at the foot (inches): three lines of provenance under a column, two on a page."""
    return 0.4 if fig.get_figwidth() <= COLUMN else 0.28


def _legend_columns(labels: Iterable[str], width: float) -> int:
    """How many columns of a legend, at most four, fit into a width (inches)."""
    lengths = [len(label) for label in labels]
    for across in (4, 3, 2):
        down = -(-len(lengths) // across)
        columns = [lengths[start : start + down] for start in range(0, len(lengths), max(down, 1))]
        if sum(0.5 + 0.062 * max(column) for column in columns) <= width:
            return across
    return 1


def nothing(title: str) -> Figure:
    """A picture that has only its title, where there is nothing to draw."""
    fig, (ax,) = grid(1, 0.2)
    ax.set_visible(False)
    return titled(fig, title)


def save(fig: Figure, folder: Path, name: str, provenance: str, dpi: int = 150) -> Image:
    """Writes `<name>.png` and `<name>.svg`, with a line of provenance under the drawing.

    Args:
        fig: the figure; it is closed afterwards.
        folder: outputs/<study>/figures. The pictures of a rehearsed study say that it is one.
        name: name of the files, without suffix.
        provenance: what the picture was made from, in one line.
        dpi: dots per inch of the PNG.

    Returns:
        The picture, for the notebook.
    """
    folder.mkdir(parents=True, exist_ok=True)
    provenance = f"{rehearsal(folder.parent.name)} {provenance}".lstrip()
    lines = textwrap.fill(provenance, int(19 * fig.get_figwidth()))
    fig.text(
        0.008,
        strip(fig) / fig.get_figheight(),
        lines,
        va="top",
        fontsize=6.5,
        color=GREY,
        linespacing=1.25,
    )
    about = {"Title": title_of(fig), "Description": provenance}
    left_out = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    for ending, without in left_out.items():
        content = BytesIO()
        size = dpi if ending == "png" else "figure"
        fig.savefig(content, format=ending, dpi=size, metadata=about | without)
        write_bytes(folder / f"{name}.{ending}", content.getvalue())
    plt.close(fig)
    width = round(105 * fig.get_figwidth())  # pixels, a little larger than in print
    return Image(filename=folder / f"{name}.png", width=width, alt=about["Title"])


def title_of(fig: Figure) -> str:
    """The title of a figure in one line."""
    return fig.get_suptitle().replace("\n", " ")


def dots(ax, table, y, look: tuple[str, str], label: str = "") -> None:
    """Draws accuracies with their intervals; where there is no accuracy, the left edge says so.

    Args:
        ax: the panel.
        table: rows with `acc_pct`, `low_pct` and `high_pct` (percent).
        y: (rows,) height of each.
        look: colour and marker.
        label: for the legend.
    """
    colour, marker = look
    y = np.asarray(y, float)
    known = table["acc_pct"].notna().to_numpy()
    for height in y[~known]:
        ax.text(1, height, NO_SCORE, color=colour, fontsize=7, va="center")
    table, y = table[known], y[known]
    ax.hlines(y, table["low_pct"], table["high_pct"], color=colour, lw=1.3)
    values = table["acc_pct"]
    ax.plot(
        values, y, ls="", marker=marker, color=colour, ms=4.5, mec="white", mew=0.5, label=label
    )
