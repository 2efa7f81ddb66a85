"""The result on the first screen: every declared comparison with its interval and verdict."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from sm70lib.analysis.roles import TUNED
from sm70lib.claims.case import EXPLORATORY, JUDGED, OURS
from sm70lib.claims.entries import OWN
from sm70lib.presentation import columns, names
from sm70lib.reporting.made import Made

BELOW = ("documents", "letters")  # judges of claims that a number is lower than its reference
IN_PARTS = ("all_of",)  # judges that say in `why` what a row is about


class Line(NamedTuple):
    """One declared comparison.

    Attributes:
        what: the benchmark, or what was declared, as it stands within a sentence.
        gap: the difference with its interval; "" where there is none.
        detail: accuracies before and after, or the value that had to be exceeded; and n.
        verdict: in the words of the scorecard.
        why: the reason, where there is no verdict.
    """

    what: str
    gap: str
    detail: str
    verdict: str
    why: str = ""

    @property
    def title(self) -> str:
        """What was compared, as a line by itself begins."""
        return f"{self.what[:1].upper()}{self.what[1:]}"


def lines(made: Made) -> list[Line]:
    """The declared comparisons: tuned against its start, or what the study declares instead."""
    chosen = primary(made)
    if chosen:
        return [_primary(made, row) for row in chosen]
    return [_declared(row) for row in _judged(made) if row["entry"].study != OWN]


def primary(made: Made) -> list[dict[str, Any]]:
    """Tuned against its start on the exams; none where the study declares something else.

    What the scorecard says of clean items alone is not one of the declared family.
    """
    judged = [row for row in _judged(made) if row["entry"].judge == "primary"]
    return [row for row in judged if row["subset"] == "all"]


def _judged(made: Made) -> list[dict[str, Any]]:
    """What the study claims of itself and does not only explore."""
    own = [row for row in made.card if row["source"].startswith(OURS) and row["entry"]]
    return [row for row in own if row["verdict"] != EXPLORATORY]


def gap(row: dict[str, Any]) -> str:
    """A row's number with its interval and its unit, such as "+50.3 [38.7, 59.5] points"."""
    if row["ours"] is None:
        return ""
    unit = row["measure"].partition("(")[2].rstrip(")")
    sign = "" if unit == "%" else "+"
    decimals = columns.decimals_of(row["measure"])
    value, low, high = (f"{row[name]:.{decimals}f}" for name in ("ours", "low", "high"))
    if not math.isfinite(row["high"] - row["low"]):
        return f"{value} {unit}, no bounds"
    return f"{sign if row['ours'] > 0 else ''}{value} [{low}, {high}] {unit}".rstrip()


def _primary(made: Made, row: dict[str, Any]) -> Line:
    before = row["claim"].rpartition(" ")[2]
    sides = [_accuracy(made, row, model) for model in (before, TUNED)]
    detail = f"n = {row['n']:.0f}"
    if all(sides):
        detail = f"{sides[0]} % before, {sides[1]} % after; {detail}"
    return Line(names.benchmark(row["benchmark"]), gap(row), detail, row["verdict"], _reason(row))


def _reason(row: dict[str, Any]) -> str:
    return "" if row["verdict"] in JUDGED else names.text(row["why"])


def _accuracy(made: Made, row: dict[str, Any], model: str) -> str:
    """The accuracy of a model at a row's place (percent); "" where it has none."""
    found = made.table("results")
    if found.empty:
        return ""
    keys = ["benchmark", "subset", "protocol", "shots"]
    at = (found[keys] == [row[key] for key in keys]).all(axis=1)
    values = found[at & (found["model"] == model) & (found["study"] == made.name)]["acc_pct"]
    return "".join(f"{value:.1f}" for value in values.dropna().head(1))


def _declared(row: dict[str, Any]) -> Line:
    """What a study of its own declares: the wording of the part, or of the claim."""
    number = gap(row)
    what, detail = names.text(row["claim"]), names.text(row["why"])
    if number and row["entry"].judge in IN_PARTS:
        what, detail = detail, ""
    if number and row["reference"] is not None:
        asked = f"{names.text(row['benchmark'])}, protocol {row['protocol']}"
        side = "to fall below" if row["entry"].judge in BELOW else "to exceed"
        needed = f"{side}: {row['reference']:g}; n = {row['n']:.0f}"
        detail = "; ".join(filter(None, (needed, asked, detail)))
    return Line(what, number, detail, row["verdict"])
