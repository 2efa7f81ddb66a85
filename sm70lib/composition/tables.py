"""Tables of the data: what sources and benchmarks hold, what was dropped, what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sm70lib import benchmarks, sources
from sm70lib.benchmarks import Item
from sm70lib.corpus import tokens
from sm70lib.corpus.tokens import IGNORED
from sm70lib.sources import Defect

PUBLISHED = ["name", "what", "licence", "rows", "bytes"]
DEFECT = ["source", "file", "row", "reason", "check", "dropped"]
GUESSES = ["position_pct", "text_pct"]
MEASURES = ["kept", "tokens", "targets"]  # of a source's share
AROUND, LAST = 6, 2  # tokens on both sides of a seam, and at the end of a row


def published(names: Sequence[str]) -> pd.DataFrame:
    """What the publishers of sources state of the whole sets.

    Args:
        names: the sources, by name or by the path of a file.

    Returns:
        A line per source, with the columns PUBLISHED; empty cells where nothing is stated.
    """
    return pd.DataFrame([vars(sources.about(name)) for name in names])[PUBLISHED]


def holdings(held: pd.DataFrame) -> pd.DataFrame:
    """How many rows each study draws of each source, and of all sources.

    Args:
        held: `training_set.holdings`: a line per study, a column per source.

    Returns:
        A line per source and one for all `rows`, a column per study.
    """
    short = held.rename(columns=lambda name: name.removeprefix("medical_meadow_"))
    return short.assign(rows=held.sum(axis=1)).T.rename_axis("source")


def guessers(asked: Mapping[str, list[Item]]) -> pd.DataFrame:
    """The size of each benchmark, and what guessers score on it that never read a question.

    Args:
        asked: the items of each benchmark that has an accuracy.

    Returns:
        A line per benchmark: `items`, `fewest options`, `most options`, the accuracies (percent)
        of `benchmarks.constant_guess`, and the first twelve digits of `benchmarks.items_digest`.
    """
    rows = []
    for some in asked.values():
        options = [len(item.options) for item in some]
        guess = benchmarks.constant_guess(some)
        shares = [100 * guess["position"], 100 * guess["text"]]
        digest = benchmarks.items_digest(some)[:12]
        rows.append([len(some), min(options), max(options), *shares, digest])
    columns = ["items", "fewest options", "most options", *GUESSES, "digest"]
    return pd.DataFrame(rows, pd.Index(list(asked), name="benchmark"), columns)


def answer_positions(asked: Mapping[str, list[Item]]) -> pd.DataFrame:
    """Where in the list of options the right one stands.

    Args:
        asked: the items of each benchmark that has an accuracy.

    Returns:
        A line per benchmark, a column per position (from 1), with the share of items; they sum
        to 1. Missing where no right option stands there.
    """
    shares = {
        name: pd.Series([item.answer + 1 for item in some]).value_counts(normalize=True)
        for name, some in asked.items()
    }
    return pd.DataFrame(shares).T.sort_index(axis=1)


def defects(found: Iterable[Defect]) -> pd.DataFrame:
    """Findings about rows or items, a line each.

    Args:
        found: the findings.

    Returns:
        The columns DEFECT, as in `data/defects.csv`.
    """
    return pd.DataFrame(found, columns=DEFECT)


def doubts(found: Iterable[Defect]) -> pd.DataFrame:
    """How many benchmark items cannot be scored or are doubtful, by reason.

    Args:
        found: what reading the benchmarks noted; of a reason such as "same as ..." only the
            beginning counts.

    Returns:
        `benchmark`, `reason`, whether they are `dropped`, and the number of `items`.
    """
    noted = [(doubt.source, doubt.reason.split(" as ")[0], doubt.dropped) for doubt in found]
    table = pd.DataFrame(noted, columns=["benchmark", "reason", "dropped"])
    return table.value_counts().reset_index(name="items")


def reasons(found: Iterable[Defect]) -> pd.DataFrame:
    """How many findings there are of each check and reason in each source.

    Args:
        found: the findings in training rows.

    Returns:
        `check`, `reason`, `source`, whether the rows were `dropped` for it, and their number.
    """
    by = ["check", "reason", "source", "dropped"]
    return defects(found).groupby(by).size().reset_index(name="rows")


def leaked_fields(hits: pd.DataFrame) -> pd.DataFrame:
    """In which field of a benchmark's items each source overlaps with them.

    Args:
        hits: `Audit.hits`.

    Returns:
        By source, benchmark and field: items and rows concerned, exact matches, and hits whose
        answer stands beside them.
    """
    return hits.groupby(["source", "benchmark", "field"]).agg(
        items=("item_id", "nunique"),
        rows=("row", "nunique"),
        exact=("exact", "sum"),
        with_answer=("answer", "sum"),
    )


def token_lengths(lengths: pd.DataFrame) -> pd.DataFrame:
    """How many tokens the rows of each source have, and how many they lost to the limit.

    Args:
        lengths: a line per row, from `training_set.prepare`.

    Returns:
        By source: its rows, their median and longest length (tokens), rows cut, tokens cut.
    """
    return lengths.groupby("source", sort=False, observed=True).agg(
        rows=("tokens", "size"),
        median=("tokens", "median"),
        longest=("tokens", "max"),
        rows_cut=("cut", lambda cut: (cut > 0).sum()),
        tokens_cut=("cut", "sum"),
    )


def with_tokens(funnel: pd.DataFrame, lengths: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The funnel of rows, with the tokens that came out at its end.

    Args:
        funnel: `Audit.funnel`.
        lengths: a line per row, from `training_set.prepare`.
        names: the sources of instruction rows, by title; one without a row left has no tokens.

    Returns:
        The funnel with `tokens`, and with `targets`, those that carry loss. Both are missing for
        running text and for preferences, whose tokens are not counted here.
    """
    sums = lengths.groupby("source")[["tokens", "targets"]].sum()
    return funnel.join(sums.reindex(names, fill_value=0))


def source_shares(funnel: pd.DataFrame) -> pd.DataFrame:
    """The share of each source in rows, in tokens and in the tokens that carry loss.

    Args:
        funnel: `with_tokens`.

    Returns:
        A line per source, with the columns MEASURES; each column sums to 1.
    """
    return funnel[MEASURES] / funnel[MEASURES].sum()


def first_of_each(rows: Any, count: int) -> Any:
    """The first row of each of the first sources.

    Args:
        rows: a dataset of encoded rows, with the column `source`.
        count: how many sources.

    Returns:
        A dataset of at most `count` rows, in their order.
    """
    first = pd.Series(rows["source"]).drop_duplicates().index[:count]
    return rows.select(first.tolist())


def seams(rows: Any, tokenizer) -> pd.DataFrame:
    """Tokens and labels around the seam of prompt and response, and at the end of each row.

    Args:
        rows: encoded rows of different sources: `source`, `input_ids` and `labels`.
        tokenizer: the tokenizer that wrote them.

    Returns:
        Beside each other, for each source: place, token id, text and label of AROUND tokens
        before the seam and after it, and of the LAST ones. A label is empty where the loss skips
        the token.
    """
    shown = {}
    for row in rows:
        table = tokens.show(row["input_ids"], row["labels"], tokenizer).map(repr)
        table = table.replace("''", "")
        seam = row["labels"].count(IGNORED)
        end = max(seam + AROUND, len(table) - LAST)
        parts = [table[max(seam - AROUND, 0) : seam + AROUND], table[end:]]
        name = row["source"].removeprefix("medical_meadow_")
        shown[name] = pd.concat(parts).reset_index(names="place").astype(str)
    return pd.concat(shown, axis=1).fillna("")
