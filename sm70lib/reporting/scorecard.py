"""The scorecard as readers see it: the study's own claims first, slices and the unjudged apart."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple

from sm70lib.analysis.roles import TUNED
from sm70lib.claims.case import EXPLORATORY, JUDGED, OURS
from sm70lib.mistakes import lists
from sm70lib.presentation import names
from sm70lib.reporting import result
from sm70lib.reporting.made import Made
from sm70lib.statistics.verdicts import SUPPORTED

ABOVE_GUESSER = ("floor", "letters")  # judges whose reference is a guesser's accuracy and a margin
EXPECTED_FAILURE = ("letters",)  # judges of claims that something will not work
WHOLE = ("all", "clean", "")
FEWEST = 10  # items of a slice that is judged
Row = dict[str, Any]


class Group(NamedTuple):
    """A claim and its rows.

    Attributes:
        claim: its wording.
        rows: the rows on all items, or without leaked ones.
        slices: the rows on other parts of the items.
    """

    claim: str
    rows: list[Row]
    slices: list[Row]


class Scorecard(NamedTuple):
    """All claims of a study's scorecard, apart.

    Attributes:
        own: what the study claims of itself and judges.
        exploratory: rows of its own beside a declared family, which are not judged.
        paper: what the paper claims and this study can judge.
        folded: one sentence for each claim that cannot be judged here.
        tally: how many rows on all items have which judgement.
    """

    own: list[Group]
    exploratory: list[Group]
    paper: list[Group]
    folded: list[str]
    tally: list[tuple[str, int]]


def scorecard(made: Made) -> Scorecard:
    """The scorecard of a study, in the order in which it is read."""
    own: list[Group] = []
    exploratory: list[Group] = []
    paper: list[Group] = []
    folded: list[str] = []
    for claim, part in groupby(made.card, key=lambda row: row["claim"]):
        rows = list(part)
        if all(row["measure"] == "" for row in rows):
            folded += [_folded(claim, row) for row in rows]
        elif {row["verdict"] for row in rows} == {EXPLORATORY}:
            exploratory.append(_group(made, claim, rows))
        elif any(_own(row) for row in rows):
            own.append(_group(made, claim, rows))
        else:
            paper.append(_group(made, claim, rows))
    return Scorecard(own, exploratory, paper, folded, _tally([*own, *paper]))


def _own(row: Row) -> bool:
    """Whether the study claims this of itself."""
    return row["entry"] is not None and row["entry"].source.startswith(OURS)


def _folded(claim: str, row: Row) -> str:
    return names.text(f"{claim}: {row['verdict']} ({row['why']})")


def _group(made: Made, claim: str, rows: list[Row]) -> Group:
    shown = [_shown(row) | {"listed": _items(made, row)} for row in rows]
    whole = [row for row in shown if row["subset"] in WHOLE]
    slices = [row for row in shown if row["subset"] not in WHOLE]
    return Group(names.text(claim), whole, slices)


def _shown(row: Row) -> Row:
    """A row with the cells that the page shows."""
    place = names.text(names.benchmark(row["benchmark"]))
    if row["subset"] not in ("all", ""):
        place += f", {names.subset(row['subset'])}"
    way = ""
    if row["protocol"] and row["shots"] is not None:
        way = f"{row['protocol']}, {row['shots']:.0f}-shot"
    return row | {
        "place": place or "the whole claim",
        "way": f"{way}; {row['measure']}".strip("; "),
        "limit": _reference(row),
        "number": _number(row),
        "count": "" if row["n"] is None else f"{row['n']:,.0f}",
        "note": _note(row),
        "badge": badge(row),
    }


def _items(made: Made, row: Row) -> str:
    """The page of the tuned model's answers at a row's place; "" where no page has just these."""
    part = row["subset"] != "all" or row["measure"].startswith("leak")
    if part or row["shots"] is None:
        return ""
    name = lists.address(TUNED, row["benchmark"], row["protocol"], int(row["shots"]))
    page = f"{lists.FOLDER}/{name}"
    return page if (made.folder / "report" / page).exists() else ""


def _reference(row: Row) -> str:
    """What ours is compared with: a guesser's accuracy and the margin apart."""
    if row["reference"] is None:
        return ""
    entry, needed = row["entry"], f"{row['reference']:g}"
    if entry and entry.judge in ABOVE_GUESSER:
        margin = entry.arguments["margin"]
        needed = f"{row['reference'] - margin:.1f} + {margin}"
    return f"under {needed}" if entry and entry.judge in result.BELOW else needed


def _number(row: Row) -> str:
    number, bracket, _ = result.gap(row).rpartition("]")
    return number + bracket or result.gap(row) or "–"


def _note(row: Row) -> str:
    source = "" if row["source"] == OURS else row["source"]
    return "; ".join(filter(None, (names.text(row["why"]), source)))


def badge(row: Row) -> tuple[str, str]:
    """The words of a row's verdict, and the name of their colour.

    That something fails as expected is no success of the study, and gets no green.
    """
    verdict = row["verdict"]
    entry = row["entry"]
    if verdict in JUDGED and row["subset"] not in WHOLE and (row["n"] or 0) < FEWEST:
        return f"not judged: fewer than {FEWEST} items", ""
    if verdict == SUPPORTED and entry and entry.judge in EXPECTED_FAILURE:
        return "fails as expected", "expected"
    return verdict, verdict.split()[0] if verdict else ""


def _tally(groups: Iterable[Group]) -> list[tuple[str, int]]:
    """How often each verdict was given to rows on all items, the judged ones first."""
    counts: dict[str, int] = {}
    for group in groups:
        for row in group.rows:
            word = row["badge"][0] or row["as_compared"]
            counts[word] = counts.get(word, 0) + 1
    counts.pop("", None)
    return sorted(counts.items(), key=lambda pair: (pair[0] not in JUDGED, pair[0]))
