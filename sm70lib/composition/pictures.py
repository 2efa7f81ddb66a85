"""Figures of the data. The title of each is written from its numbers."""

from __future__ import annotations

from itertools import cycle, islice, product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sm70lib.analysis.drawing import PAGE, nothing, titled
from sm70lib.analysis.figures import MOST_ROWS
from sm70lib.composition.tables import MEASURES
from sm70lib.presentation import names

COLOURS = [f"C{number}" for number in range(6)]  # as many as the smallest palette has
HATCHES = ["", "////", "....", "xxxx"]  # where there are more parts than colours
SHARES = dict(zip(MEASURES, ["rows", "tokens", "tokens that carry loss"]))
BINS = 50  # of a histogram


def holdings(held: pd.DataFrame) -> Figure:
    """How many rows each study draws of each source, if the public sets are whole.

    Args:
        held: `training_set.holdings`: a line per study, a column per source.

    Returns:
        A bar per study, with a part per source.
    """
    rows, first = held.sum(axis=1), held.iloc[0]
    title = (
        f"{held.index[0]} takes {rows.iloc[0]:,} rows, {first.max() / rows.iloc[0]:.0%} of them "
        f"from {names.source(str(first.idxmax()))}"
    )
    return _stacked(held.rename(columns=names.source), "rows, if the public sets are whole", title)


def answer_positions(positions: pd.DataFrame) -> Figure:
    """Where in the list of options the right one stands.

    Args:
        positions: `tables.answer_positions`.

    Returns:
        A bar per benchmark, with a part per position.
    """
    if positions.empty:
        return nothing("No benchmark has an accuracy, so none has a right option")
    worst = positions.max(axis=1).idxmax()
    place, share = positions.loc[worst].idxmax(), positions.loc[worst].max()
    title = (
        f"Position of the right option: most unequal in {names.benchmark(str(worst))}, "
        f"position {place} in {share:.0%} of items"
    )
    parts = positions.rename(index=names.benchmark, columns="position {}".format)
    return _stacked(parts, "share of items", title)


def funnel(counts: pd.DataFrame, checks: list[str]) -> Figure:
    """How many rows of each source were dropped, by the check that dropped them first.

    Args:
        counts: `Audit.funnel`.
        checks: the checks, in their order; those that dropped no row are left out.

    Returns:
        A bar per source, with a part per check.
    """
    dropped = counts[checks].loc[:, counts[checks].sum() > 0]
    if dropped.empty:
        return nothing(f"No check dropped any of {counts['rows'].sum():,} rows")
    by_check = dropped.sum()
    title = (
        f"{by_check.sum():,} of {counts['rows'].sum():,} rows are dropped, most by the check "
        f"{by_check.idxmax()} ({by_check.max():,})"
    )
    xlabel = "rows dropped, by the check that dropped them first"
    return _stacked(dropped.rename(index=names.source), xlabel, title)


def token_lengths(lengths: pd.DataFrame, limit: int) -> Figure:
    """How long the rows were before the cut, and where the limit falls.

    Args:
        lengths: a line per row, from `training_set.prepare`: `source`, `tokens` and `cut`.
        limit: `data_max_length` (tokens).

    Returns:
        A histogram with a colour per source, and a line at the limit.
    """
    source = lengths["source"].astype(str)
    order = list(source.unique())
    looks = _looks(len(order))
    fig, ax = plt.subplots(figsize=(PAGE, 3))
    sns.histplot(
        x=lengths["tokens"] + lengths["cut"],
        hue=source,
        hue_order=order[::-1],  # seaborn draws the last one first, at the foot of the stack
        palette=[look["color"] for look in looks[::-1]],
        multiple="stack",
        bins=BINS,
        alpha=1,
        linewidth=0,
        edgecolor="white",
        legend=False,
        ax=ax,
    )
    for bars, name, look in zip(ax.containers, order, looks, strict=True):
        bars.set_label(names.source(name))
        for bar in bars:
            bar.set_hatch(look["hatch"])
    ax.axvline(limit, color="black", lw=1, label=f"limit ({limit:,} tokens)")
    ax.set(xlabel="tokens of a row before the cut", ylabel="rows")
    longer = (lengths["cut"] > 0).sum()
    title = f"{longer:,} of {len(lengths):,} rows are longer than the limit of {limit:,} tokens"
    return titled(fig, title, [ax])


def source_shares(shares: pd.DataFrame) -> Figure:
    """The share of each source in kept rows, in tokens, and in tokens that carry loss.

    Args:
        shares: `tables.source_shares`.

    Returns:
        Three bars per source.
    """
    name = shares["targets"].idxmax()
    title = (
        f"Largest share of the loss: {names.source(str(name))}, "
        f"{shares.loc[name, 'targets']:.0%} of its tokens and {shares.loc[name, 'kept']:.0%} of "
        "the rows"
    )
    shown, left = _fitting(shares, shares["targets"])
    fig, ax = plt.subplots(figsize=(PAGE, 1.1 + 0.34 * len(shown)))
    y, height = np.arange(len(shown)), 0.8 / len(SHARES)
    for number, (column, label) in enumerate(SHARES.items()):
        places = y + height * (number - 1)
        ax.barh(places, shown[column].fillna(0), height, color=f"C{number}", label=label)
    _lines(ax, [names.source(str(source)) for source in shown.index])
    ax.set(xlabel="share of all sources")
    return titled(fig, title + left, [ax])


def _stacked(table: pd.DataFrame, xlabel: str, title: str) -> Figure:
    """A bar per line of a table, with a part per column."""
    shown, left = _fitting(table, table.sum(axis=1))
    fig, ax = plt.subplots(figsize=(PAGE, 1.1 + 0.22 * len(shown)))
    y, begin = np.arange(len(shown)), np.zeros(len(shown))
    for column, look in zip(shown, _looks(shown.shape[1]), strict=True):
        values = shown[column].fillna(0).to_numpy(float)
        ax.barh(y, values, 0.75, begin, label=column, edgecolor="white", lw=0.5, **look)
        begin = begin + values
    _lines(ax, list(shown.index))
    ax.set(xlabel=xlabel)
    ax.xaxis.set_major_formatter("{x:,g}")
    return titled(fig, title + left, [ax])


def _fitting(table: pd.DataFrame, sizes: pd.Series) -> tuple[pd.DataFrame, str]:
    """The MOST_ROWS largest lines in their order, and what a title adds if there are more."""
    if len(table) <= MOST_ROWS:
        return table, ""
    largest = np.sort(sizes.fillna(0).to_numpy().argsort(kind="stable")[::-1][:MOST_ROWS])
    return table.iloc[largest], f"; shown are the {MOST_ROWS} largest of {len(table)}"


def _lines(ax, labels: list[str]) -> None:
    """Writes a label beside each bar, the first at the top."""
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)


def _looks(count: int) -> list[dict[str, str]]:
    """Colour and hatch of each part; with more parts than colours, hatches tell them apart."""
    pairs = ({"color": colour, "hatch": hatch} for hatch, colour in product(HATCHES, COLOURS))
    return list(islice(cycle(pairs), count))
