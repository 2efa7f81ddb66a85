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

    The last four attributes are filled from its line in benchmarks.csv.

    Attributes:
        reader: yields the questions of one file (see fields.py).
        folder: the folder of its files below `data_root`.
        hub: its repository on the hub; None if it has none.
        patterns: globs below `folder`, with {} for the split. The first one that matches any file
            is used.
        scored: names that the scored split may have. The first one that has files is used.
        pools: the splits that few-shot examples come from, best first.
        pool_of: the benchmark whose splits `pools` names; "" for this one.
        as_row: a question as one row of its files, for stand-ins (sm70lib/standins/items.py). It
            takes MedQA's layout: question, options by letter, answer, answer_idx.
        asked_as: the benchmark whose prompts protocols use for this one.
        ids: what the ids of its items begin with.
        use: "test"; "dev" if it is for choosing between models; "safety" if its right answers are
            to comply or to refuse; "documents" if the loss on its texts is measured; "pairs" if its
            options are a better and a worse answer; "rubric" if judges read the replies.
        by_hand: where to get the files that the hub does not have; "" for nowhere.
    """

    reader: Callable[[Path], Found]
    folder: str
    hub: str | None
    patterns: tuple[str, ...]
    scored: tuple[str, ...] = ("test",)
    pools: tuple[str, ...] = ()
    pool_of: str = ""
    as_row: Callable[[dict], dict] = dict
    asked_as: str = ""
    ids: str = ""
    use: str = "test"
    by_hand: str = ""
