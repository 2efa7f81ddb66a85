"""What readers see of a column: its head, its decimals, and what it is joined with."""

from __future__ import annotations

import re
from typing import NamedTuple

from sm70lib.presentation import names


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        head: what stands above it.
        decimals: of its numbers; None takes as many as the longest number has.
        signed: whether a positive number has a plus.
        note: whether a value that all rows share goes to the caption.
    """

    head: str
    decimals: int | None = None
    signed: bool = False
    note: bool = False


COLUMNS = {
    "study": Column("Study", note=True),
    "model": Column("Model"),
    "system": Column("System"),
    "benchmark": Column("Benchmark"),
    "protocol": Column("Protocol", note=True),
    "shots": Column("Shots", 0, note=True),
    "subset": Column("Items"),
    "kind": Column("Kind"),
    "n": Column("n", 0),
    "correct": Column("Right", 0),
    "acc_pct": Column("Accuracy (%)", 1),
    "low_pct": Column("Low (%)", 1),
    "high_pct": Column("High (%)", 1),
    "bound_low_pct": Column("Lower bound (%)", 1),
    "bound_high_pct": Column("Upper bound (%)", 1),
    "acc_norm_pct": Column("Accuracy per character (%)", 1),
    "best_constant_pct": Column("Best constant guesser (%)", 1),
    "commonest_pct": Column("Commonest choice (%)", 1),
    "right_rank": Column("Rank of right option", 2),
    "unparsed": Column("Unread", 0, note=True),
    "seeds": Column("Seeds", 0, note=True),
    "seed": Column("Seed", note=True),
    "sample": Column("Draw", note=True),
    "spread_pts": Column("SD over seeds (points)", 1),
    "mass_pct": Column("Mass on true answers (%)", 1),
    "interval": Column("Kind of interval", note=True),
    "family": Column("Family", note=True),
    "before": Column("Before", note=True),
    "after": Column("After", note=True),
    "difference_pts": Column("Difference (points)", 1, signed=True),
    "level_pct": Column("Level (%)", 1, note=True),
    "test": Column("Test", note=True),
    "p": Column("p", 3),
    "p_holm": Column("p (Holm)", 3),
    "detectable_pts": Column("Detectable (points)", 1),
    "reading": Column("Reading"),
    "orders": Column("Other orders", 0, note=True),
    "moved_pct": Column("Text changes (%)", 1),
    "acc_file_pct": Column("Accuracy as in the file (%)", 1),
    "acc_least_pct": Column("Least of all orders (%)", 1),
    "acc_most_pct": Column("Most (%)", 1),
    "unread": Column("Unread", 0, note=True),
    "judge": Column("Judge"),
    "read_by": Column("Exact model, or reader", note=True),
    "as_not_met_pct": Column("Score, unread as not met (%)", 1),
    "as_met_pct": Column("Score, unread as met (%)", 1),
    "criteria": Column("Criteria", 0),
    "characters": Column("Characters a reply", 0),
    "other": Column("Other judge"),
    "kappa": Column("Kappa", 2),
    "this_run_pct": Column("This run (%)", 1),
    "mean_pct": Column("Earlier runs, mean (%)", 1),
    "sd_pts": Column("SD (points)", 1),
    "expected_low_pct": Column("Expected from (%)", 1),
    "expected_high_pct": Column("to (%)", 1),
    "worlds": Column("Worlds", 0, note=True),
    "agrees": Column("Within"),
    "n_flagged": Column("Leaked items", 0),
    "gain_flagged_pts": Column("Gain on leaked (points)", 1, signed=True),
    "n_clean": Column("Other items", 0),
    "gain_clean_pts": Column("Gain on others (points)", 1, signed=True),
    "effect_pts": Column("Worth of a leak (points)", 1, signed=True),
    "rule": Column("Rule"),
    "wrong": Column("Wrong", 0),
    "n_else": Column("n elsewhere", 0),
    "wrong_else": Column("Wrong elsewhere", 0),
    "else_pct": Column("Accuracy elsewhere (%)", 1),
    "protocol_a": Column("First protocol", note=True),
    "read_a": Column("First reads", note=True),
    "protocol_b": Column("Second protocol"),
    "read_b": Column("Second reads", note=True),
    "item_id": Column("Item"),
    "slice": Column("Slice"),
    "value": Column("Value"),
    "favourite": Column("Favourite position"),
    "favourite_chosen_pct": Column("chosen (%)", 1),
    "favourite_gold_pct": Column("right (%)", 1),
    "chosen_length": Column("Length of choice", 2),
    "gold_length": Column("Length of right option", 2),
    "agree_pct": Column("Same choice per character (%)", 1),
    "confidence": Column("Confidence", 2),
    "margin": Column("Margin (nats)", 2),
    "brier": Column("Brier score", 2),
    "ece_pts": Column("ECE (points)", 1),
    "bin": Column("Tenth", 0),
    "this_pct": Column("This study (%)", 1),
    "other_pct": Column("Other study (%)", 1),
    "coverage_pct": Column("Surest answers (%)", 0),
    "confidence_pct": Column("Confidence (%)", 1),
    "value_pct": Column("Value (%)", 1),
    "n_plausible": Column("n, if not stated"),
    "shots_plausible": Column("Shots, if not stated"),
    "metric": Column("Metric", note=True),
    "source": Column("Source", note=True),
    "status": Column("Status", note=True),
    "as_compared": Column("As compared"),
    "claim": Column("Claim"),
    "verdict": Column("Verdict"),
    "why": Column("Why"),
    "measure": Column("Measure", note=True),
    "reference": Column("Reference"),
    "ours": Column("Ours"),
    "confidence_b": Column("Confidence after", 2),
}
# A value and the ends of its interval stand in one cell
INTERVALS = {
    "acc_pct": ("low_pct", "high_pct"),
    "moved_pct": ("low_pct", "high_pct"),
    "as_not_met_pct": ("low_pct", "high_pct"),
    "as_met_pct": ("low_met_pct", "high_met_pct"),
    "difference_pts": ("low_pts", "high_pts"),
    "else_pct": ("else_low_pct", "else_high_pct"),
    "effect_pts": ("low_pts", "high_pts"),
    "ours": ("low", "high"),
}
# Columns whose unit is that of their row: its measure says it in brackets, such as "loss (nats)"
BY_MEASURE = ("reference", "ours")
DECIMALS = {"nats": 3}  # of numbers with this unit; others have one
BOUNDS = {"bound_low_pct": "bound_high_pct", "expected_low_pct": "expected_high_pct"}
HEADS_OF_BOUNDS = {"bound_low_pct": "Bounds (%)", "expected_low_pct": "Expected (%)"}


def decimals_of(measure: str) -> int:
    """How many decimals numbers of a measure have."""
    return DECIMALS.get(measure.partition("(")[2].rstrip(")"), 1)


def of(name: str) -> Column:
    """The column of that name; one that is not known is headed by its name in words."""
    if name in names.BENCHMARKS:
        return Column(names.benchmark(name))
    if name in names.MODELS or name.startswith("tuned"):  # a column for each model
        return Column(names.model(name))
    if name == "base" or re.search(r"[-\d]", name):  # a model, a study, or a protocol
        return COLUMNS.get(name, Column(name))
    words = name.replace("_", " ")
    return COLUMNS.get(name, Column(words[:1].upper() + words[1:]))
