"""How to read a result, in three sentences: what moved, what did not and why, what is not shown."""

from __future__ import annotations

import pandas as pd

from sm70lib.analysis.roles import BASE, BASE_NF4, TUNED
from sm70lib.parameters import aggregates
from sm70lib.presentation import names
from sm70lib.reporting.made import Made
from sm70lib.reporting.result import Line, primary
from sm70lib.statistics.verdicts import CONTRADICTED, SUPPORTED

SEVERAL = 3  # places that a sentence names
# How a comparison without a verdict reads, what that is called, and why
WITHOUT = (
    (
        "no verdict: .* chose ",
        "no verdict",
        "a model chose the same option in nearly all of its answers",
    ),
    (r"no verdict: \d+ clusters", "no verdict", "the questions come from too few sources"),
    ("no score", "no score", "most replies could not be read"),
)


def sentences(made: Made, lines: list[Line]) -> list[tuple[str, str]]:
    """The three sentences, each with what it is about.

    Args:
        made: the study.
        lines: its result (`result.lines`).
    """
    return [
        ("What moved", _moved(lines)),
        ("What did not", _unmoved(made, lines)),
        ("What this does not show", _limits(made)),
    ]


def _moved(lines: list[Line]) -> str:
    shown = [_said(line) for line in lines if line.verdict == SUPPORTED]
    against = [_said(line) for line in lines if line.verdict == CONTRADICTED]
    words = "No declared comparison is supported."
    if shown:
        words = f"Supported: {'; '.join(shown)}."
    return f"{words} Contradicted: {'; '.join(against)}." if against else words


def _said(line: Line) -> str:
    """A line of the result without its interval, which stands beside it."""
    value, _, interval = line.gap.partition(" [")
    unit = interval.rpartition("] ")[2]
    return f"{line.what} ({value} {unit})" if interval else line.what


def _unmoved(made: Made, lines: list[Line]) -> str:
    """Declared comparisons without a verdict, and what else tuning did not change."""
    said = []
    undecided = [line for line in lines if line.verdict not in (SUPPORTED, CONTRADICTED)]
    for line in undecided[:SEVERAL]:
        said.append(f"{line.what}: {line.verdict}{f' ({line.gap})' if line.gap else ''}")
    if len(undecided) > SEVERAL:
        said.append(f"{len(undecided) - SEVERAL} more in the scorecard")
    said += _elsewhere(made)
    if not said:
        return "Every comparison that was made shows a difference."
    words = "; ".join(said)
    return f"{words[:1].upper()}{words[1:]}."


def _elsewhere(made: Made) -> list[str]:
    """What the other comparisons of tuned with its start could not show, and why."""
    table = made.table("comparisons")
    if table.empty:
        return []
    start = BASE_NF4 if BASE_NF4 in set(table["before"]) else BASE
    here = (table["before"] == start) & (table["after"] == TUNED) & (table["study"] == made.name)
    steps = table["benchmark"].isin(aggregates.USMLE_STEPS)
    shown = (table["family"] == "primary") & bool(primary(made))
    other = table[here & ~steps & ~shown]
    said = []
    open_ones = other[other["reading"].str.startswith("not distinguishable")]
    if len(open_ones):
        least, most = open_ones["detectable_pts"].min(), open_ones["detectable_pts"].max()
        size = f"{least:g}" if least == most else f"{least:g} to {most:g}"
        said.append(
            f"no difference was found on {_places(open_ones)}; with so many items, differences "
            f"under {size} points are often missed"
        )
    for begins, what, why in WITHOUT:
        lacking = other[other["reading"].str.match(begins)]
        if len(lacking):
            said.append(f"{what} on {_places(lacking)}, because {why}")
    return said


def _places(table: pd.DataFrame) -> str:
    """Benchmarks by protocol: "MedQA and USMLE (harness)"."""
    groups = []
    for protocol, part in table.groupby("protocol", sort=False):
        asked = list(dict.fromkeys(map(names.benchmark, part["benchmark"])))
        groups.append(f"{names.listed(asked)} ({protocol})")
    more = len(groups) - SEVERAL
    if more > 0:
        others = "one more protocol" if more == 1 else f"{more} more protocols"
        groups = [*groups[:SEVERAL], f"and under {others}"]
    return ", ".join(groups)


def _limits(made: Made) -> str:
    said = []
    if made.invented:
        said.append("The medicine is invented, so no number here is evidence about real medicine")
    elif made.small:
        said.append(f"The base {made.small}, so no number here is evidence about the paper")
    seeds = made.parameters.get("train_seeds", [])
    if len(seeds) == 1:
        said.append(
            "only one seed was trained, so the intervals cover the choice of questions, and not "
            "another seed or machine"
        )
    left = sum(row["verdict"] == "not comparable" for row in made.card)
    if left:
        said.append("the paper's own claims are not judged here")
    said.append("an exam score is no evidence of safety or use in care")
    words = "; ".join(said)
    return f"{words[:1].upper()}{words[1:]}."
