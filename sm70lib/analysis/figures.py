"""The pictures of a study. The title of each is written from its numbers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sm70lib.analysis import quoted
from sm70lib.analysis.drawing import GREY, KINDS, PAGE, grid, nothing, titled
from sm70lib.analysis.panels import fit, panels
from sm70lib.analysis.roles import TUNED
from sm70lib.parameters import aggregates
from sm70lib.presentation import names
from sm70lib.protocols.replies import NO_SCORE

MOST_ROWS, MOST_COLUMNS = 40, 24  # of a figure


def accuracy(found: pd.DataFrame, quotes: pd.DataFrame) -> Figure:
    """Every model on every benchmark, with interval, best constant guesser and quoted values.

    Args:
        found: `accuracies.results` of one protocol and number of shots.
        quotes: rows of quoted.csv; those that have, or may have, these shots are drawn as open
            marks. If the mean over the USMLE steps is among them, it gets a line of its own.
    """
    quotes = quoted.fitting(quoted.usable(quotes), list(found["shots"].unique()))
    whole = found[found["subset"] == "all"]
    means = [name for name in quotes["benchmark"] if aggregates.is_macro([name])]
    finding = _finding(_whole(whole), "benchmarks")
    table = pd.concat([_whole(whole), whole[whole["benchmark"].isin(means)]])
    table, left = fit(table.assign(panel=""), "panel", "benchmark")
    fig, (ax,) = panels(table, "panel", "benchmark")
    lines = list(dict.fromkeys(table["benchmark"]))
    quotes = quotes[quotes["benchmark"].isin(lines)]
    for (system, part), marker in zip(quotes.groupby("system"), "op*hdv<>"):
        heights = [lines.index(name) + 0.41 for name in part["benchmark"]]
        ax.plot(
            part["value_pct"],
            heights,
            ls="",
            marker=marker,
            mfc="white",
            mec="black",
            ms=4.5,
            label=f"{system} (quoted)",
        )
    return titled(fig, finding + left, [ax])


def kinds(found: pd.DataFrame) -> Figure:
    """Each kind of question on the generated world, in a panel for each benchmark."""
    table = _whole(found[found["subset"].isin(KINDS)])
    table = table.sort_values("subset", key=lambda subset: subset.map(KINDS.index))
    shown, left = fit(table, "benchmark", "subset")
    fig, axes = panels(shown, "benchmark", "subset")
    return titled(fig, _finding(table, "kinds of question") + left, axes)


def protocols(found: pd.DataFrame) -> Figure:
    """The same benchmarks, asked in several ways: how much of a score is due to the protocol."""
    table = _whole(found[found["subset"] == "all"])
    table = table.assign(asked=table["protocol"] + ", " + table["shots"].astype(str) + "-shot")
    several = table.groupby("benchmark")["asked"].transform("nunique") > 1
    table = table[several]
    shown, left = fit(table, "benchmark", "asked")
    fig, axes = panels(shown, "benchmark", "asked")
    scores = table.dropna(subset="acc_pct").groupby(["model", "benchmark"])["acc_pct"]
    apart = scores.max() - scores.min()
    title = "The same questions, asked in several ways"
    if len(apart):
        model, benchmark = apart.idxmax()
        where = f"{names.model(model)} on {names.benchmark(benchmark)}"
        title += f": scores of one model lie up to {apart.max():.0f} points apart ({where})"
    return titled(fig, title + left, axes)


def _whole(found: pd.DataFrame) -> pd.DataFrame:
    """The rows without the single USMLE steps and their macro mean, which have a table."""
    names = aggregates.names(found["benchmark"], [aggregates.POOLED], members=False)
    return found[found["benchmark"].isin(names)]


def _finding(table: pd.DataFrame, places: str) -> str:
    """In words, on how many of the scored `places` tuned is above the best constant guesser."""
    tuned = table[table["model"] == TUNED]
    scored = tuned.dropna(subset="acc_pct")
    above = (scored["bound_low_pct"] > scored["best_constant_pct"]).sum()
    counted = f"{above} of {len(scored)} {places}"
    if len(scored) == len(tuned):
        return f"Tuned stands above the best constant guesser on {counted}"
    without = f"has {NO_SCORE} on {len(tuned) - len(scored)}"
    if scored.empty:
        return f"Tuned {without} {places}"
    return f"Tuned beats the best guesser on {counted}, {without}"  # a title cannot be longer


def memory(table: pd.DataFrame) -> Figure:
    """Planned and measured megabytes of each part of the loaded model."""
    fig, (ax,) = grid(1, 0.3 + 0.22 * len(table), "MB (2^20 bytes), logarithmic")
    y = np.arange(len(table))
    ax.plot(table["planned_mb"], y, "o", mfc="white", mec=GREY, ms=6, label="planned")
    ax.plot(table["measured_mb"], y, "D", color="black", ms=3, label="measured")
    ax.set(yticks=y, yticklabels=table["part"], ylim=(len(table) - 0.5, -0.5), xscale="log")
    for height, value in zip(y, table["planned_mb"]):
        text = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        ax.annotate(
            text, (value, height), (6, 0), textcoords="offset points", fontsize=7, va="center"
        )
    ax.margins(x=0.22)
    total = table["planned_mb"].sum()
    largest = table.loc[table["planned_mb"].idxmax(), "part"]
    apart = (table["measured_mb"] / table["planned_mb"] - 1).abs().max()
    title = f"Planned {total:,.4g} MB, most of it {largest}"
    if pd.notna(apart):
        measured = f"differ from their plan by at most {apart:.1%}"
        title += f"; measured parts {measured if apart > 0.0005 else 'are as planned'}"
    return titled(fig, title, [ax])


def contamination(table: pd.DataFrame) -> Figure:
    """Share of each benchmark's items found in each training source, by any test of the audit."""
    shares = table.assign(share=100 * table["any"] / table["items"])
    whole = shares.pivot(index="source", columns="benchmark", values="share")
    share = whole.loc[_most(whole.max(axis=1), MOST_ROWS), _most(whole.max(), MOST_COLUMNS)]
    fig, ax = plt.subplots(figsize=(PAGE, 1.6 + 0.2 * len(share)))
    most = max(share.to_numpy().max(), 1)
    drawn = ax.pcolormesh(share, cmap="Blues", vmin=0, vmax=most, edgecolors="white", lw=1)
    for (row, column), value in np.ndenumerate(share.to_numpy()):
        text, colour = f"{value:.1f}" if value > 0 else "·", "white" if value > most / 2 else "0.2"
        ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7.5, color=colour)
    benchmarks, sources = map(names.benchmark, share.columns), map(names.source, share.index)
    ax.set_xticks(np.arange(share.shape[1]) + 0.5, list(benchmarks), rotation=20, ha="right")
    ax.set_yticks(np.arange(len(share)) + 0.5, list(sources))
    ax.set_ylim(len(share), 0)
    ax.grid(visible=False)
    fig.colorbar(drawn, ax=ax, label="% of items found (·: none)", shrink=0.9)
    title = f"Benchmark items in the training sources: {(table['any'] > 0).sum()} of {len(table)}"
    worst = shares.loc[shares["share"].idxmax()]
    title += " pairs overlap"
    if worst["share"] > 0:
        where = f"{names.benchmark(worst['benchmark'])} in {names.source(worst['source'])}"
        title += f", most of all {where} ({worst['share']:.1f} %)"
    if share.size < whole.size:
        title += f"; shown are {' by '.join(map(str, share.shape))} of "
        title += f"{' by '.join(map(str, whole.shape))}, those with most"
    return titled(fig, title)


def _most(values: pd.Series, count: int) -> list:
    """The names of the largest values, in the order in which they stand."""
    largest = set(values.nlargest(count).index)
    return [name for name in values.index if name in largest]


def clean(found: pd.DataFrame) -> Figure:
    """Accuracy on all items and without the leaked ones, on each benchmark that has leaked items.

    Args:
        found: `accuracies.results` of one protocol and number of shots.
    """
    table = _whole(found[found["subset"].isin(["all", "clean"])])
    table = table[table.groupby(["model", "benchmark"])["n"].transform("nunique") == 2]
    if table.empty:
        return nothing("No benchmark has leaked items and clean ones both")
    fig, axes = panels(table, "benchmark", "subset")
    for ax, (name, part) in zip(axes, table.groupby("benchmark", sort=False)):
        leaked = part["n"].max() - part["n"].min()
        ax.set_title(f"{names.benchmark(name)}: {leaked} of {part['n'].max():,} leaked")
    return titled(fig, f"With and without leaked items{_lost(table)}", axes)


def _lost(table: pd.DataFrame) -> str:
    """In words, where the score of the tuned model changes most without the leaked items."""
    tuned = table[table["model"] == TUNED].set_index(["benchmark", "subset"])["acc_pct"].unstack()
    change = (tuned["clean"] - tuned["all"]).dropna() if len(tuned) else pd.Series(dtype=float)
    if change.empty:
        return ""
    name = change.abs().idxmax()
    return f": tuned changes by at most {change.abs().max():.1f} points ({names.benchmark(name)})"


def flips(table: pd.DataFrame) -> Figure:
    """Answers gained (right) and lost (left) by tuning (percent of items), by benchmark and kind.

    Rows without a test, because most replies are unread, are left out, and so are those behind the
    first MOST_ROWS; the title counts them.
    """
    without = int(table["p"].isna().sum())
    table = table.dropna(subset="p")
    if table.empty:
        why = f"{NO_SCORE}, most replies are unread" if without else "none to compare"
        return nothing(f"Answers gained and lost by tuning: {why}")
    gained, lost = table["gained"].sum(), table["lost"].sum()
    text = f"; {NO_SCORE} in {without} more rows" if without else ""
    if len(table) > MOST_ROWS:
        text += f"; shown are the first {MOST_ROWS} of {len(table)} rows"
        table = table.head(MOST_ROWS)
    labels = [
        f"{names.benchmark(row.benchmark)}, {row.kind} (n={row.n})".replace(", all (", " (")
        for row in table.itertuples()
    ]
    xlabel = "lost (left) and gained, % of n"
    fig, (ax,) = grid(1, 0.3 + 0.19 * len(table), xlabel)
    # In the colour of the model that is right
    for name, sign, colour in (("gained", 1, "C2"), ("lost", -1, "C0")):
        bars = ax.barh(labels, sign * 100 * table[name] / table["n"], color=colour)
        ax.bar_label(bars, table[name].replace(0, ""), padding=2, fontsize=7)
    low, high = ax.get_xlim()
    ax.set_xlim(low - 0.1 * (high - low), high + 0.1 * (high - low))  # for the numbers
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    return titled(fig, f"Answers gained by tuning: {gained}; lost: {lost}{text}")
