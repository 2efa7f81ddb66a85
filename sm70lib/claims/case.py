"""What judges see of a study, and the rows that they write.

A row has two columns of judgement. `as_compared` is the order against a printed number, as papers
compare: protocols may differ, and `why` names both. `verdict` is about models that answered the
same items under the same protocol, and it alone says "supported".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sm70lib.analysis.frames import AFTER
from sm70lib.claims.entries import Claim, short
from sm70lib.claims.estimates import Answers, Finding
from sm70lib.statistics import stats, verdicts
from sm70lib.statistics.stats import Estimate
from sm70lib.statistics.verdicts import CONTRADICTED, OPEN, SUPPORTED
from sm70lib.study.keys import mark

OTHERWISE = "not scored under the same protocol"
UNTESTED = "not tested by this study"
EXPLORATORY = "exploratory"
JUDGED = (SUPPORTED, CONTRADICTED, OPEN)
ACCURACY, DIFFERENCE = "accuracy (%)", "difference (points)"
LEAKS = "usmle"  # so many of its items leak that they are also left out
Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What a judge sees: one study's answers, and what it declared.

    Attributes:
        answers: of the study itself.
        others: answers (`errors.frame`) of the further studies, by name.
        before: the model that tuning started from.
        compared: `tables.comparisons` of the study.
        protocol: of the declared comparison.
        shots: of the declared comparison.
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
        keys = "benchmark", "protocol", "shots"
        return only(self.answers.run(model, *(place[key] for key in keys)), place["subset"])

    def pair(self, before: str, place: Row, names: list[str]) -> pd.DataFrame:
        """The items of the benchmarks `names` that a model and the tuned one answered."""
        both = self.answers.pair(before, AFTER, names, place["protocol"], place["shots"])
        return only(both, place["subset"])

    def subsets(self, names: list[str], protocol: str, shots: int) -> list[str]:
        """All items; and, where benchmarks leak much, the clean ones apart."""
        parts = [self.answers.run(AFTER, name, protocol, shots) for name in names]
        leaking = (part["flagged"].any() for name, part in zip(names, parts) if LEAKS in name)
        return ["all", "clean"] if any(leaking) else ["all"]

    @property
    def level(self) -> float:
        """Level of the bounds (share)."""
        return self.answers.level

    def models_named(self, name: str) -> list[str]:
        """Models of this study, other than its own tuned ones, with that name (`claims.short`)."""
        rows = self.answers.rows
        found = [self.before] if short(rows["base"].iloc[0]).startswith(name) else []
        given = mark(self.folder, "04_eval").get("parameters", {}).get("eval_models", {})
        found += [
            model
            for model, line in given.items()
            if "adapter=" not in line and short(line.split()[0]).startswith(name)
        ]
        return [model for model in found if model in set(rows["model"])]


def only(part: pd.DataFrame, subset: str) -> pd.DataFrame:
    """The answers to a subset: all, clean (without what the audit flagged), or a kind of item."""
    if subset == "all":
        return part
    return part[~part["flagged"] if subset == "clean" else part["kind"] == subset]


def judged(
    claim: Claim, finding: Finding, reference: float, place: Row, sign: int = 1, why: str = ""
) -> Row:
    """A row whose verdict is that of its bounds: sign x (ours - reference) > 0, in points."""
    found = row(claim, finding, reference, place)
    if finding.instead:
        return found
    verdict = verdicts.judged(finding.estimate, reference / 100, sign)
    return found | {"verdict": verdict, "why": why}


def row(claim: Claim, finding: Finding, reference: float, place: Row) -> Row:
    """A row with our numbers (percent, points); its verdict only says why there is none."""
    numbers = {"ours": float("nan"), "low": float("nan"), "high": float("nan")}
    if finding.estimate:
        values = (round(100 * value, 1) + 0.0 for value in finding.estimate[:3])
        numbers = dict(zip(numbers, values))
    said = {"as_compared": "", "verdict": finding.instead, "why": finding.why}
    about = {"claim": claim.claim, "source": "this study", "n": finding.n}
    return about | place | numbers | said | {"reference": round(reference, 2)}


def bare(claim: Claim, verdict: str, why: str, source: str = "") -> Row:
    """A row without numbers."""
    said = {"as_compared": "", "verdict": verdict, "why": why}
    return {"claim": claim.claim, "source": source or claim.source} | said


def interval(estimate: Estimate) -> str:
    """A difference with its bounds, in points."""
    value, low, high = (100 * number for number in estimate[:3])
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def listed(names: Iterable[str]) -> str:
    """Names in a sentence."""
    return ", ".join(names)


def holm(found: Row, study: Study, before: str) -> Row:
    """A row on the declared family: with the bounds and the adjusted p that the family has.

    What these do not carry is undecidable; a row that is none of the family stays as it is.
    """
    table, keys = study.compared, ["benchmark", "protocol", "shots"]
    table = table[(table["family"] == "primary") & (table["before"] == before)]
    table = table[(table[keys] == [found[key] for key in keys]).all(axis=1)]
    if table.empty or found["subset"] != "all" or found["verdict"] not in JUDGED:
        return found
    declared = table.iloc[0]
    numbers = dict(
        zip(("ours", "low", "high"), declared[["difference_pts", "low_pts", "high_pts"]])
    )
    bounds = Estimate(*(value / 100 for value in numbers.values()), int(declared["n"]), "")
    verdict = verdicts.judged(bounds)
    if verdict != OPEN and declared["p_holm"] > 1 - study.level:
        verdict = OPEN
    said = "; ".join(filter(None, (f"Holm's p {stats.p_text(declared['p_holm'])}", found["why"])))
    return found | numbers | {"verdict": verdict, "why": said}
