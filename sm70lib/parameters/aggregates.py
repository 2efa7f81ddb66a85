"""Benchmarks that are counted together under one name, and how their scores become one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

POOLED = "pooled"  # all items together, each with the same weight
MACRO = "macro"  # the mean over the members, each with the same weight


class Aggregate(NamedTuple):
    """Benchmarks under one name.

    Attributes:
        name: what tables, figures and claims call it.
        members: its benchmarks; those that a study asks count.
        how: POOLED or MACRO.
    """

    name: str
    members: tuple[str, ...]
    how: str


USMLE_STEPS = ("usmle_step1", "usmle_step2", "usmle_step3")
# Categories of TruthfulQA; Meditron prints each, and their mean (arXiv 2311.16079, Table 13)
MEDICAL = ("Health", "Nutrition", "Psychology", "Science")
MEDICAL_MEAN = "mean of four categories"
AGGREGATES = (
    Aggregate("usmle", USMLE_STEPS, POOLED),
    Aggregate("usmle_macro", USMLE_STEPS, MACRO),
    Aggregate(MEDICAL_MEAN, MEDICAL, MACRO),
)


def names(
    asked: Iterable[str], hows: Collection[str] = (POOLED, MACRO), members: bool = True
) -> list[str]:
    """The benchmarks of a table with their aggregates.

    Args:
        asked: names in the table, of benchmarks and perhaps of aggregates.
        hows: which aggregates to give.
        members: whether to name the benchmarks that are in one of these aggregates too.

    Returns:
        The names in their order, without other aggregates; then the aggregates that were missing.
    """
    there = dict.fromkeys(asked)
    given, left_out = [], set()
    for aggregate in AGGREGATES:
        if aggregate.how not in hows:
            left_out.add(aggregate.name)
        elif aggregate.name in there or not there.keys().isdisjoint(aggregate.members):
            given.append(aggregate)
    if not members:
        left_out |= {member for aggregate in given for member in aggregate.members}
    every = dict.fromkeys([*there, *(aggregate.name for aggregate in given)])
    return [name for name in every if name not in left_out]


def complete(asked: Iterable[str]) -> set[str]:
    """The benchmarks, and the pooled aggregates whose members are all among them."""
    there = set(asked)
    pooled = [each for each in AGGREGATES if each.how == POOLED]
    return there | {each.name for each in pooled if there.issuperset(each.members)}


def is_macro(benchmarks: Iterable[str]) -> bool:
    """Whether all these names are of aggregates that are a mean over their members."""
    return {each.name for each in AGGREGATES if each.how == MACRO}.issuperset(benchmarks)
