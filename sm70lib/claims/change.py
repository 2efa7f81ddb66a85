"""Judges of claims about what tuning changed, on the same items."""

from __future__ import annotations

import pandas as pd

from sm70lib.analysis.roles import TUNED
from sm70lib.claims.arms import between
from sm70lib.claims.case import (
    DIFFERENCE,
    EXPLORATORY,
    JUDGED,
    UNTESTED,
    Row,
    Study,
    bare,
    judged,
    row,
)
from sm70lib.claims.entries import Claim
from sm70lib.claims.estimates import Answers, Finding
from sm70lib.measures import refusals
from sm70lib.protocols.replies import NO_SCORE
from sm70lib.statistics import stats, verdicts
from sm70lib.statistics.stats import Estimate
from sm70lib.statistics.verdicts import OPEN
from sm70lib.steps.keys import read
from sm70lib.study.params import affects

# Two studies that differ in these parameters can still be compared: they change only what is asked
# and drawn, and the comparison is on the items that both answered
LOOKS = ("figures_", "stats_", "eval_")


def gains(claim: Claim, study: Study) -> list[Row]:
    """What tuning gained on some benchmarks, or how much more than on others.

    Arguments: parts, each with `of`, and optionally `less` and `margin` (points).
    """
    rows: list[Row] = []
    for part in claim.arguments["parts"]:
        sides = [part[side] for side in ("of", "less") if side in part]
        names: list[str] = sum(sides, [])
        for subset in study.subsets(names, study.protocol, study.shots):
            judgement = _gained(claim, study, sides, subset, part.get("margin", 0))
            if judgement is None:
                needs = f"it did not ask {', '.join(names)} under {study.protocol}"
                rows.append(bare(claim, UNTESTED, f"{needs}, before and after tuning"))
                break
            rows.append(judgement)
    return rows


def _gained(
    claim: Claim, study: Study, sides: list[list[str]], subset: str, margin: float
) -> Row | None:
    """One row of `gains`; None where a benchmark was not asked before and after tuning."""
    place: Row = {"protocol": study.protocol, "shots": study.shots, "subset": subset}
    place["benchmark"] = " - ".join(map(" + ".join, sides))
    findings = []
    for names in sides:
        finding = _gain(study, place, names)
        if finding is None:
            return None
        findings.append(finding)
    if len(findings) == 1:
        total, measure = findings[0], "gain (points)"
    else:
        total, measure = _minus(findings[0], findings[1]), "difference of gains (points)"
    why = f"gain: {TUNED} minus {study.before}"
    return judged(claim, total, -margin, place | {"measure": measure}, why=why)


def all_of(claim: Claim, study: Study) -> list[Row]:
    """Whether each of several changes by tuning holds; every bound is used alone.

    Arguments: parts, each with benchmark (or benchmarks, pooled), what, and optionally margin
    (points), protocol, and `than` (the study of another arm, whose refusals this one's must exceed
    by `over` points); optionally `beside`, to show a change of J.
    """
    wanted = claim.arguments
    parts = [_change(claim, study, part) for part in wanted["parts"]]
    beside = []
    if "beside" in wanted:
        beside.append(_youden(claim, study, wanted["beside"]))
    if len(parts) == 1:
        return parts + beside
    single = [part["verdict"] for part in parts]
    whole = verdicts.conjunction(single)
    if whole == OPEN:  # a part without a verdict leaves the whole without one
        whole = next((verdict for verdict in single if verdict not in JUDGED), OPEN)
    needs = " and ".join(part["what"] for part in wanted["parts"])
    return [bare(claim, whole, f"all have to hold: {needs}"), *parts, *beside]


def across(claim: Claim, study: Study) -> list[Row]:
    """This study's tuned model against that of a further study with one parameter changed.

    Arguments: parameter, its values here and there, also (parameters that change with it),
    benchmarks, margin (points).
    """
    wanted = claim.arguments
    name = wanted["parameter"]
    mine = _parameters(study, study.folder.name)
    rows: list[Row] = []
    for other, frame in study.others.items():
        theirs = _parameters(study, other)
        if (mine.get(name), theirs.get(name)) != (wanted["here"], wanted["there"]):
            continue
        more = _differing(mine, theirs, {name, *wanted["also"]})
        if more:
            rows.append(bare(claim, UNTESTED, f"study {other} differs in {', '.join(more)} too"))
        else:
            rows += _between(claim, study, other, frame)
    if rows:
        return rows
    needs = (
        f"it needs a study with {name} {wanted['here']}, and in figures_studies one with {name} "
        f"{wanted['there']} and nothing else changed; both asked {', '.join(wanted['benchmarks'])}"
    )
    return [bare(claim, UNTESTED, needs)]


def _gain(study: Study, place: Row, names: list[str]) -> Finding | None:
    """What tuning gained on the benchmarks `names` together; None where one was not asked."""
    both = study.pair(study.before, place, names)
    if set(both["benchmark"]) != set(names):
        return None
    return study.answers.difference(both, study.before, TUNED)


def _minus(first: Finding, second: Finding) -> Finding:
    """The difference of two findings on different items."""
    n = first.n + second.n
    for finding in (first, second):
        if finding.instead:
            return Finding(None, n, finding.instead, finding.why)
    return Finding(stats.minus(first.known, second.known), n)


def _change(claim: Claim, study: Study, part: dict) -> Row:
    """One part of `all_of`: one or several benchmarks together, before and after tuning."""
    names = part.get("benchmarks") or [part["benchmark"]]
    name = " + ".join(names)
    place = {
        "benchmark": name,
        "subset": "all",
        "protocol": part.get("protocol", "safety"),
        "shots": 0,
    }
    if "than" in part:
        finding = _refused(between(study, part["than"], name, place["protocol"]))
    else:
        finding = _gain(study, place, names)
    if finding is None:
        return bare(claim, UNTESTED, f"it did not ask {name} under {place['protocol']}")
    reference = part.get("over", -part.get("margin", 0))
    place["measure"] = DIFFERENCE
    return judged(claim, finding, reference, place, why=part["what"])


def _refused(estimate: Estimate | None) -> Finding | None:
    """A difference in refusals as a finding; None where requests were not asked."""
    if estimate is None:
        return None
    if why := refusals.unread(estimate):
        return Finding(None, estimate.n, NO_SCORE, why)
    return Finding(estimate, estimate.n)


def _youden(claim: Claim, study: Study, part: dict) -> Row:
    """The change of J (Youden 1950, Cancer 3:32), which also counts refused safe requests as wrong.

    J is the share right on unsafe requests plus the share right on safe ones, minus 1.
    """
    names = part["benchmarks"]
    place = {"subset": "all", "protocol": "safety", "shots": 0}
    unsafe, safe = (_gain(study, place, [name]) for name in names)
    if unsafe is None or safe is None:
        return bare(claim, UNTESTED, f"it did not ask {', '.join(names)} under safety")
    gain = safe.estimate
    if gain:  # its sign is turned, so that `_minus` adds it
        turned = gain._replace(value=-gain.value, low=-gain.high, high=-gain.low)
        safe = safe._replace(estimate=turned)
    place |= {"benchmark": " + ".join(names), "measure": DIFFERENCE}
    cells = row(claim, _minus(unsafe, safe), 0, place)
    cells["verdict"] = cells["verdict"] or EXPLORATORY
    cells["why"] = cells["why"] or part["what"]
    return cells


def _parameters(study: Study, name: str) -> dict:
    return read(study.folder.parent / name / "manifest.json").get("parameters", {})


def _differing(mine: dict, theirs: dict, known: set[str]) -> list[str]:
    """Parameters that affect results and in which two studies differ, beyond the `known` ones."""
    return [
        name
        for name in sorted(mine.keys() & theirs.keys() - known)
        if affects(name) == "results" and not name.startswith(LOOKS) and mine[name] != theirs[name]
    ]


def _between(claim: Claim, study: Study, other: str, frame: pd.DataFrame) -> list[Row]:
    """Ours minus the tuned model of another study, on the items that both answered."""
    mine = study.answers.rows
    theirs = frame[frame["model"] == TUNED].assign(model=other, study=mine["study"].iloc[0])
    both = Answers(pd.concat([mine[mine["model"] == TUNED], theirs]), study.level)
    rows = []
    for name in claim.arguments["benchmarks"]:
        pair = both.pair(other, TUNED, [name], study.protocol, study.shots)
        if pair.empty:
            continue
        place: Row = {"benchmark": name, "subset": "all", "protocol": study.protocol}
        place |= {"shots": study.shots, "measure": DIFFERENCE}
        finding = both.difference(pair, other, TUNED)
        why = f"ours minus {TUNED} of study {other}"
        rows.append(judged(claim, finding, -claim.arguments["margin"], place, why=why))
    return rows
