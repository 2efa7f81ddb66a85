"""What judges see of a study, and the rows that they write.

A row has two columns of judgement. `as_compared` is the order against a printed number, in the way
that papers compare: protocols may differ, and `why` names both. `verdict` is about models that
answered the same items under the same protocol; only this column says "supported".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sm70lib.analysis.comparisons import PRIMARY
from sm70lib.analysis.roles import TUNED
from sm70lib.claims.entries import Claim, short
from sm70lib.claims.estimates import Answers, Finding
from sm70lib.mistakes.narrow import of_subset
from sm70lib.statistics import stats, verdicts
from sm70lib.statistics.stats import Estimate
from sm70lib.statistics.verdicts import CONTRADICTED, OPEN, SUPPORTED
from sm70lib.steps.keys import mark
from sm70lib.study import others

OURS = "this study"  # how the source of a study's own claims begins
OTHERWISE = "not scored under the same protocol"
UNTESTED = "not tested by this study"
EXPLORATORY = "exploratory"
JUDGED = (SUPPORTED, CONTRADICTED, OPEN)
ACCURACY, DIFFERENCE = "accuracy (%)", "difference (points)"
LEAKS = "usmle"  # so many of its items leak that the clean ones are also judged alone
Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What a judge sees: one study's answers, and what it declared.

    Attributes:
        answers: the study's own answers.
        others: answers (`frames.frame`) of further studies, by name.
        before: the model that tuning started from.
        compared: `comparisons.comparisons` of the study.
        protocol: protocol of the declared comparison.
        shots: shots of the declared comparison.
        primary: benchmarks of the declared comparison.
        quotes: `quoted.usable`.
        folder: outputs/<study>.
    """

    answers: Answers
    others: dict[str, pd.DataFrame]
    before: str
    compared: pd.DataFrame
    protocol: str
    shots: int
    primary: list[str]
    quotes: pd.DataFrame
    folder: Path

    def part(self, model: str, place: Row) -> pd.DataFrame:
        """The answers of a model at a row's place (benchmark, subset, protocol, shots)."""
        run = self.answers.run(model, place["benchmark"], place["protocol"], place["shots"])
        return of_subset(run, place["subset"])

    def pair(self, before: str, place: Row, names: list[str]) -> pd.DataFrame:
        """The items of the benchmarks `names` that both a model and the tuned one answered."""
        both = self.answers.pair(before, TUNED, names, place["protocol"], place["shots"])
        return of_subset(both, place["subset"])

    def subsets(self, names: list[str], protocol: str, shots: int) -> list[str]:
        """The subsets to judge: all items, and the clean ones alone where many items leak."""
        for name in names:
            part = self.answers.run(TUNED, name, protocol, shots)
            if LEAKS in name and part["flagged"].any():
                return ["all", "clean"]
        return ["all"]

    @property
    def level(self) -> float:
        """Level of the bounds (share)."""
        return self.answers.level

    def models_named(self, name: str) -> list[str]:
        """Models of this study, other than its own tuned ones, with that name (`entries.short`)."""
        rows = self.answers.rows
        models = [self.before] if short(rows["base"].iloc[0]).startswith(name) else []
        given = mark(self.folder, "04_eval").get("parameters", {}).get("eval_models", {})
        for model, line in given.items():
            other = others.read(model, line)
            if other.adapter is None and short(other.known_as).startswith(name):
                models.append(model)
        scored = set(rows["model"].unique())
        return [model for model in models if model in scored]


def judged(
    claim: Claim, finding: Finding, reference: float, place: Row, sign: int = 1, why: str = ""
) -> Row:
    """A row whose verdict follows from its bounds: is sign x (ours - reference) above 0?

    Args:
        claim: the claim.
        finding: our estimate, or what stands in place of a verdict.
        reference: the value to compare with (percent or points).
        place: cells that say where: benchmark, subset, protocol, shots, measure.
        sign: 1 for "above", -1 for "below".
        why: what was compared, in words.
    """
    cells = row(claim, finding, reference, place)
    if finding.instead or finding.estimate is None:
        return cells
    verdict = verdicts.judged(finding.estimate, reference / 100, sign)
    return cells | {"verdict": verdict, "why": why}


def row(claim: Claim, finding: Finding, reference: float, place: Row) -> Row:
    """A row with our numbers (percent, points); its verdict only says why there is none."""
    numbers = {"ours": float("nan"), "low": float("nan"), "high": float("nan")}
    if finding.estimate:
        values = (round(100 * value, 1) + 0.0 for value in finding.estimate[:3])
        numbers = dict(zip(numbers, values))
    judgement = {"as_compared": "", "verdict": finding.instead, "why": finding.why}
    about = {"claim": claim.claim, "source": OURS, "n": finding.n}
    return about | place | numbers | judgement | {"reference": round(reference, 2)}


def bare(claim: Claim, verdict: str, why: str, source: str = "") -> Row:
    """A row without numbers."""
    judgement = {"as_compared": "", "verdict": verdict, "why": why}
    return {"claim": claim.claim, "source": source or claim.source} | judgement


def interval(estimate: Estimate) -> str:
    """A difference with its bounds, in points."""
    value, low, high = (100 * number for number in estimate[:3])
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def holm(judged_row: Row, study: Study, before: str) -> Row:
    """A row on the declared family, with the bounds and the adjusted p of the family.

    What these do not support is undecidable. A row outside the family stays as it is.

    Args:
        judged_row: the row as `judged` wrote it.
        study: the study.
        before: the model that tuned is compared with.
    """
    declared = _declared(judged_row, study, before)
    if declared is None or judged_row["verdict"] not in JUDGED:
        return judged_row
    ours, low, high = declared[["difference_pts", "low_pts", "high_pts"]]
    bounds = Estimate(ours / 100, low / 100, high / 100, int(declared["n"]), "")
    verdict = verdicts.judged(bounds)
    if verdict != OPEN and declared["p_holm"] > 1 - study.level:
        verdict = OPEN
    why = f"bounds at {declared['level_pct']:.1f} %; Holm's p {stats.p_text(declared['p_holm'])}"
    if judged_row["why"]:
        why += f"; {judged_row['why']}"
    numbers = {"ours": ours, "low": low, "high": high}
    return judged_row | numbers | {"verdict": verdict, "why": why}


def _declared(judged_row: Row, study: Study, before: str) -> pd.Series | None:
    """The row of `Study.compared` that a row on all items is about; None outside the family."""
    if judged_row["subset"] != "all":
        return None
    keys = ["benchmark", "protocol", "shots"]
    table = study.compared
    table = table[(table["family"] == PRIMARY) & (table["before"] == before)]
    table = table[(table[keys] == [judged_row[key] for key in keys]).all(axis=1)]
    return None if table.empty else table.iloc[0]
