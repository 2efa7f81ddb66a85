"""What stands behind a number of any table: answers of any model, documents, or a quoted source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from sm70lib.analysis import frames, quoted
from sm70lib.analysis.roles import BASE, BASE_NF4, TUNED
from sm70lib.claims import arms
from sm70lib.mistakes import narrow, trace
from sm70lib.reporting.made import Made, entry
from sm70lib.study.params import StudyError

CARD = "scorecard"
QUOTED = " †"  # what tables add to the name of a system that others report on
ALONE = ("accuracy (%)", "difference of gaps (points)")  # measures of the tuned model by itself
OTHER_STUDY = re.compile(r"of study ([\w.-]+)$")  # how a judge ends what it compares


def text(folder: Path, table: str, row: str, column: str) -> str:
    """The answers behind a number, one line each, or where a quoted number was printed.

    Args:
        folder: outputs/<study>.
        table: name of the table.
        row: its number, 1 below the head, or what only this row says.
        column: name of the column.

    Raises:
        StudyError: there is no such table, row or column, or no answer stands behind it.
    """
    cells = trace.row_of(folder, table, row, column)
    cited = sources(cells, column)
    if cited:
        return "\n".join([f"tables/{table}.csv, {column}: {cells[column] or '(empty)'}", *cited])
    if table != CARD:
        return trace.text(folder, table, row, column)
    lines = [f"tables/{CARD}.csv, {column}: {cells[column] or '(empty)'}; {cells['claim']}"]
    lines += trace.lines(of_claim(folder, cells))
    if cells["as_compared"]:
        lines.append(f"held against the printed {cells['reference']}: {cells['source']}")
    return "\n".join(lines)


def sources(cells: dict[str, str], column: str) -> list[str]:
    """Where the numbers of a quoted row were printed, one line each; none if it is not quoted.

    Args:
        cells: the row.
        column: a benchmark, where the table has a column for each; else all of the row is meant.

    Raises:
        StudyError: nothing is quoted there.
    """
    name = cells.get("system") or cells.get("model", "")
    if not name.endswith(QUOTED) and "value_pct" not in cells:
        return []
    quotes = quoted.read()
    told = quotes["system"].eq(name.removesuffix(QUOTED)) & quotes["source"].eq(cells["source"])
    benchmark = cells.get("benchmark") or column
    if benchmark in set(quotes["benchmark"]):
        told &= quotes["benchmark"].eq(benchmark)
    if "value_pct" in cells:
        told &= quotes["value_pct"].eq(float(cells["value_pct"] or "nan"))
    if not told.any():
        printed = f"{cells['source']} prints no number of {name} that could be read"
        raise StudyError(f"{column}: {printed} here; choose a column that is filled in")
    return [
        f"quoted, not measured here: {quote['system']}, {quote['benchmark']}, {quote['value_pct']} "
        f"({quoted.asked(quote)}; {quote['status']}): {quote['source']}"
        for quote in quotes[told].to_dict("records")
    ]


def of_claim(folder: Path, cells: dict[str, str]) -> pd.DataFrame:
    """The answers that a row of the scorecard was judged by.

    Args:
        folder: outputs/<study>.
        cells: the row.

    Returns:
        Answers as `trace.answers_of` gives them: of the tuned model, or of both sides that are
        compared, on the items that both answered.

    Raises:
        StudyError: the row was not judged by answers.
    """
    _require_answers(folder, cells)
    own = trace.answers_of(folder, CARD, folder.name)
    sides = _sides(folder, cells, own)
    studies = {study: trace.answers_of(folder, CARD, study) for study, _ in sides[1:]}
    studies[folder.name] = own
    found = [_asked(studies[study], model, cells) for study, model in sides]
    if cells["measure"].startswith("leak"):
        found = _only_one_holds(found, folder.parent)
    common = set.intersection(*(set(part["item_id"]) for part in found))
    answers = pd.concat([part[part["item_id"].isin(common)] for part in found])
    if answers.empty:
        raise StudyError(f"{_said(folder, cells)}: no answer to {cells['benchmark']} is there now")
    return answers


def _said(folder: Path, cells: dict[str, str]) -> str:
    return f'tables/{CARD}.csv of study {folder.name}, "{cells["claim"]}"'


def _require_answers(folder: Path, cells: dict[str, str]) -> None:
    """Raises StudyError if a row has no number, or one that was made from documents."""
    said = _said(folder, cells)
    if not cells["benchmark"]:
        why = cells["why"] or cells["verdict"]
        raise StudyError(f"{said}: this row has no number, and so no answers behind it ({why})")
    if cells["protocol"] == "loss":
        where = f"predictions/<model>/{cells['benchmark']}-loss-0.jsonl"
        if not any(folder.glob(f"predictions/*/{cells['benchmark']}-loss-*.jsonl")):
            where = "stages/*/holdout.csv"
        raise StudyError(
            f"{said}: this number was made from losses on documents and not from answers; the loss "
            f"of each document stands in {where} of the studies that are compared"
        )


def _sides(folder: Path, cells: dict[str, str], own: pd.DataFrame) -> list[tuple[str, str]]:
    """Study and model of each side, the study's own first."""
    here, start = folder.name, frames.before(own)
    ours = (here, TUNED)
    if cells["measure"] in ALONE:
        return [ours]
    claim = entry(cells["claim"])
    if claim and claim.judge == "four_bits":
        return [(here, BASE_NF4), (here, BASE)]
    other = OTHER_STUDY.search(cells["why"]) if claim and claim.judge == "across" else None
    if other:
        return [ours, (other[1], TUNED)]
    than = _than(claim.arguments if claim else {}, cells)
    if than and than != arms.BEFORE:
        beside = Made(folder).parameters.get("figures_studies", [])
        return [ours, (arms.named(beside, than) or than, TUNED)]
    if claim and claim.judge == "against":
        named = [name for name in own["model"].unique() if name in cells["why"] and name != TUNED]
        start = max(named, key=len, default=start)
    return [ours, (here, start)]


def _than(arguments: dict[str, Any], cells: dict[str, str]) -> str:
    """The other arm that a part of a claim is about; "" where it is about one study."""
    for part in (*arguments.get("parts", ()), *arguments.get("beside", ())):
        if isinstance(part, dict) and cells["claim"].startswith(part.get("what", "\n")):
            return part.get("than", arguments.get("other", ""))
        if isinstance(part, dict) and cells["why"].endswith(part.get("what", "\n")):
            return part.get("than", "")
    return ""


def _asked(answers: pd.DataFrame, model: str, cells: dict[str, str]) -> pd.DataFrame:
    """A model's answers at the place of a row, which may be several benchmarks together."""
    benchmarks = re.split(r" [-+] ", cells["benchmark"])
    here = answers["benchmark"].isin(benchmarks) & (answers["model"] == model)
    for name in ("protocol", "shots"):
        here &= answers[name].astype(str) == cells[name]
    return narrow.of_subset(answers[here], cells["subset"])


def _only_one_holds(found: list[pd.DataFrame], outputs: Path) -> list[pd.DataFrame]:
    """The answers to items that the training rows of exactly one of two arms hold."""
    held = [set(part["item_id"][arms.seen_in_training(part, outputs)]) for part in found]
    return [part[part["item_id"].isin(held[0] ^ held[1])] for part in found]
