"""The course of training as pictures: losses, learning rates, and the order of preference pairs."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from sm70lib.analysis.drawing import COLUMN, GREY, nothing, titled

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)  # of a logarithmic axis of losses (nats per token)
PREFERENCES = {  # what a preference round logs besides its loss
    "rewards/accuracies": "pairs in the right order",
    "rewards/margins": "margin (nats)",
}


def draw_curve(ax, metrics, column: str, label: str) -> None:
    """Draws a measure, and the same on held-out rows where measured, against optimiser steps."""
    for name, word, colour, marker in (
        (column, "training", GREY, ""),
        (f"eval_{column}", "held out", "C2", "D"),
    ):
        measured = metrics.dropna(subset=name) if name in metrics else metrics[:0]
        if len(measured):
            steps, values = measured["step"], measured[name]
            ax.plot(steps, values, color=colour, marker=marker, ms=3, label=word)
    if len(ax.get_lines()) > 1:
        ax.legend(loc="upper right")
    ax.set(xlabel="optimiser step", ylabel=label, ymargin=0.1)


def _measures(metrics) -> dict[str, str]:
    """What a stage's metrics hold: the loss, and what PREFERENCES names; with labels."""
    there = {name: label for name, label in PREFERENCES.items() if name in metrics}
    return {"loss": "loss (nats per pair)" if there else "loss (nats per token)"} | there


def loss_curve(metrics, title: str) -> Figure:
    """The loss against optimiser steps; of a preference round also accuracy and margin."""
    measures = _measures(metrics)
    size = (COLUMN, 0.9 + 1.4 * len(measures))
    fig, axes = plt.subplots(len(measures), 1, sharex=True, squeeze=False, figsize=size)
    for ax, (column, label) in zip(axes.flat, measures.items()):
        draw_curve(ax, metrics, column, label)
        ax.label_outer()
    plt.close(fig)  # else a cell that ends with the figure shows it twice
    return titled(fig, title)


def live_loss() -> Callable[[pd.DataFrame], None]:
    """A watcher for `launch.run` that redraws the loss curve in place when there is a new row."""
    handle = display(display_id=True)
    drawn = 0

    def show(metrics: pd.DataFrame) -> None:
        nonlocal drawn
        if len(metrics) > drawn:
            drawn = len(metrics)
            handle.update(loss_curve(metrics, "Training, as it goes"))

    return show


def pretraining(metrics: pd.DataFrame) -> Figure:
    """The loss of a base that is trained here, on a logarithmic axis."""
    measured = metrics.dropna(subset="loss") if "loss" in metrics else metrics[:0]
    if measured.empty:
        return nothing("The base was not trained here")
    first, last = measured["loss"].iloc[[0, -1]]
    title = f"Pretraining of the base: loss {first:.2f} to {last:.2f} nats per token"
    fig = loss_curve(metrics, f"{title} in {measured['step'].iloc[-1]:,} steps")
    (ax,) = fig.axes
    ax.set(yscale="log", yticks=TICKS, yticklabels=map(str, TICKS))
    ax.set_ylim(0.9 * measured["loss"].min(), 1.1 * measured["loss"].max())
    ax.minorticks_off()
    return fig


def training(metrics: pd.DataFrame) -> Figure:
    """One stage of tuning against optimiser steps: loss, held-out loss, learning rate.

    A preference round has two panels more, of the pairs in the right order and of their margin.
    """
    measures = _measures(metrics)
    heights = [2] * len(measures) + [1]
    size = (COLUMN, sum(heights))
    fig, axes = plt.subplots(len(heights), 1, sharex=True, figsize=size, height_ratios=heights)
    for ax, (column, label) in zip(axes, measures.items()):
        draw_curve(ax, metrics, column, label)
        ax.set_xlabel("")
    rates = metrics.dropna(subset="learning_rate")
    axes[-1].plot(rates["step"], rates["learning_rate"], color="black")
    axes[-1].set(xlabel="optimiser step", ylabel="learning rate")
    return titled(fig, _course(metrics))


def _course(metrics: pd.DataFrame) -> str:
    """In words, how the held-out measure of a stage went.

    The order of pairs has no beginning: before a round both answers have a reward of 0.
    """
    held = {name: metrics[name].dropna().to_numpy() for name in metrics if "eval_" in name}
    right = held.get("eval_rewards/accuracies", [])
    if len(right):
        return f"At the end {right[-1]:.0%} of the held-out pairs are in the right order"
    loss = held.get("eval_loss", [])
    if len(loss) > 1:
        return f"Held-out loss: {loss[0]:.2f} to {loss[-1]:.2f} nats per token"
    return "Training"
