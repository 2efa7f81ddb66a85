"""What the catalogue knows about a benchmark: its reader and where its files lie."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sm70lib.benchmarks.fields import Found

# How the hub names the tables of a split.
TABLES = ("**/{}-*.parquet", "**/{}/*.parquet", "{}.parquet")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's reader, where its files lie and which splits it uses.

    Attributes:
        reader: yields the questions of one file (see fields.py).
        folder: the folder of its files below `data_root`.
        hub: its repository on the hub; None if it has none.
        patterns: globs below `folder`, with {} for the split. The first one that matches any file
            is used.
        scored: names that the scored split may have. The first one that has files is used.
        pools: the splits that few-shot examples come from, best first.
        pool_of: the benchmark whose splits `pools` names; "" for this one.
    """

    reader: Callable[[Path], Found]
    folder: str
    hub: str | None
    patterns: tuple[str, ...]
    scored: tuple[str, ...] = ("test",)
    pools: tuple[str, ...] = ()
    pool_of: str = ""
