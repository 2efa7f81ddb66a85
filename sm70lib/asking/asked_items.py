"""The items of a study as they were asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TypeVar

import pandas as pd

from sm70lib import benchmarks, protocols
from sm70lib.benchmarks import Item

T = TypeVar("T")


class Asked:
    """The items of a study as they were asked, and those that a training source holds too.

    What many models were asked is one object, as a million predictions are of few items.

    Args:
        data: the study's folder of data.
    """

    def __init__(self, data: Path):
        self.data = data
        self.items = cache(partial(_items, data / "benchmarks"))
        self.item = cache(self._item)

    @cached_property
    def hits(self) -> set[tuple[str, str]]:
        """Benchmark and id of every item that a training source holds."""
        flagged = pd.read_csv(self.data / "contaminated_items.csv", dtype=str)
        return set(zip(flagged["benchmark"], flagged["item_id"]))

    def _item(self, benchmark: str, item_id: str, protocol: str, seed: int) -> Item:
        return protocols.named(protocol).view(self.items(benchmark)[item_id], seed)


def _items(folder: Path, name: str) -> dict[str, Item]:
    """The items of a benchmark by their ids."""
    form = benchmarks.form(name)
    return {item.id: replace(item, benchmark=form) for item in benchmarks.load(folder, name)}


def of_items(items: Iterable[Item], what: Callable[[Item], T]) -> list[T]:
    """What a function makes of the item of each answer.

    It sees each item once, as a million answers are to few items.
    """
    items = list(items)
    made = {key: what(item) for key, item in {id(item): item for item in items}.items()}
    return [made[id(item)] for item in items]
