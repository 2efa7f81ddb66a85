"""Judges of claims about what tuning changed, on the same items."""

from __future__ import annotations

import pandas as pd

from sm70lib.claims.case import (
    AFTER,
    DIFFERENCE,
    EXPLORATORY,
    JUDGED,
    UNTESTED,
    Row,
    Study,
    bare,
    judged,
    listed,
    row,
)
from sm70lib.claims.entries import Claim
from sm70lib.claims.estimates import Answers, Finding
from sm70lib.statistics import stats, verdicts
from sm70lib.statistics.verdicts import OPEN
from sm70lib.study.keys import read
from sm70lib.study.params import affects

# Parameters by which two studies may differ and still be compared: they change what is asked and
# drawn, and the items that both answered are what is compared
LOOKS = ("figures_", "stats_", "eval_")


def gains(claim: Claim, study: Study) -> list[Row]:
    """What tuning gained on some benchmarks, or how much more than on others.

    Arguments: parts, each with `of`; `less` and `margin` (points) where these are given.
    """
    rows: list[Row] = []
    for part in claim.arguments["parts"]:
        sides = [part[side] for side in ("of", "less") if side in part]
        place = {"protocol": study.protocol, "shots": study.shots}
        for subset in study.subsets(sum(sides, []), **place):
            at = place | {"subset": subset, "benchmark": " - ".join(map(" + ".join, sides))}
            found = [_gain(study, at, names) for names in sides]
            if None in found:
                needs = f"it takes {listed(sum(sides, []))} under {study.protocol}"
                rows.append(bare(claim, UNTESTED, f"{needs}, before and after tuning"))
                break
            what = "gain (points)" if len(sides) == 1 else "difference of gains (points)"
            finding = found[0] if len(sides) == 1 else _minus(*found)
            why = f"gain: {AFTER} minus {study.before}"
            margin = part.get("margin", 0)
            rows.append(judged(claim, finding, -margin, at | {"measure": what}, why=why))
    return rows


def all_of(claim: Claim, study: Study) -> list[Row]:
    """Whether each of several changes by tuning holds; every bound is used alone.

    Arguments: parts, each with benchmark, what, and where given margin (points) and protocol;
    `beside` where a change of J is to be shown.
    """
    how = claim.arguments
    parts = [_change(claim, study, part) for part in how["parts"]]
    beside = [_youden(claim, study, how["beside"])] if "beside" in how else []
    if len(parts) == 1:
        return parts + beside
    found = [one["verdict"] for one in parts]
    whole = verdicts.conjunction(found)
    if whole == OPEN:  # a part without a verdict leaves the whole without one
        whole = next((verdict for verdict in found if verdict not in JUDGED), OPEN)
    needs = " and ".join(part["what"] for part in how["parts"])
    return [bare(claim, whole, f"both have to hold: {needs}"), *parts, *beside]


def across(claim: Claim, study: Study) -> list[Row]:
    """This study's tuned model against that of a further study with one parameter changed.

    Arguments: parameter, here and there (its values), also (parameters that go with it),
    benchmarks, margin (points).
    """
    how, rows = claim.arguments, []
    mine, name = _parameters(study, study.folder.name), how["parameter"]
    for other, frame in study.others.items():
        theirs = _parameters(study, other)
        if (mine.get(name), theirs.get(name)) != (how["here"], how["there"]):
            continue
        if more := _differing(mine, theirs, {name, *how["also"]}):
            rows.append(bare(claim, UNTESTED, f"study {other} differs in {listed(more)} too"))
        else:
            rows += _between(claim, study, other, frame)
    needs = (
        f"it takes a study with {name} {how['here']}, and in figures_studies one with {name} "
        f"{how['there']} and nothing else changed; both asked {listed(how['benchmarks'])}"
    )
    return rows or [bare(claim, UNTESTED, needs)]


def _gain(study: Study, place: Row, names: list[str]) -> Finding | None:
    both = study.pair(study.before, place, names)
    if set(both["benchmark"]) != set(names):
        return None
    return study.answers.difference(both, study.before, AFTER)


def _minus(first: Finding, second: Finding) -> Finding:
    """The difference of two findings on different items."""
    n = first.n + second.n
    for found in (first, second):
        if found.instead:
            return Finding(None, n, found.instead, found.why)
    return Finding(stats.minus(first.estimate, second.estimate), n)


def _change(claim: Claim, study: Study, part: dict) -> Row:
    """One part of `all_of`: a benchmark before and after tuning."""
    name = part["benchmark"]
    place = {
        "benchmark": name,
        "subset": "all",
        "protocol": part.get("protocol", "safety"),
        "shots": 0,
    }
    finding = _gain(study, place, [name])
    if finding is None:
        return bare(claim, UNTESTED, f"it takes {name} under {place['protocol']}")
    margin, place = part.get("margin", 0), place | {"measure": DIFFERENCE}
    return judged(claim, finding, -margin, place, why=part["what"])


def _youden(claim: Claim, study: Study, part: dict) -> Row:
    """The change of J (Youden 1950, Cancer 3:32): as refusing safe requests is wrong, both add up."""
    names = part["benchmarks"]
    place = {"subset": "all", "protocol": "safety", "shots": 0}
    unsafe, safe = (_gain(study, place, [name]) for name in names)
    if unsafe is None or safe is None:
        return bare(claim, UNTESTED, f"it takes {listed(names)} under safety")
    if one := safe.estimate:
        turned = one._replace(value=-one.value, low=-one.high, high=-one.low)
        safe = safe._replace(estimate=turned)
    place |= {"benchmark": " + ".join(names), "measure": DIFFERENCE}
    found = row(claim, _minus(unsafe, safe), 0, place)
    return found | {"verdict": found["verdict"] or EXPLORATORY, "why": found["why"] or part["what"]}


def _parameters(study: Study, name: str) -> dict:
    return read(study.folder.parent / name / "manifest.json").get("parameters", {})


def _differing(mine: dict, theirs: dict, known: set[str]) -> list[str]:
    """Parameters on which results depend, and in which two studies differ beyond the known ones."""
    return [
        name
        for name in sorted(mine.keys() & theirs.keys() - known)
        if affects(name) == "results" and not name.startswith(LOOKS) and mine[name] != theirs[name]
    ]


def _between(claim: Claim, study: Study, other: str, frame: pd.DataFrame) -> list[Row]:
    """Ours minus the tuned model of another study, on the items that both answered."""
    mine = study.answers.rows
    theirs = frame[frame["model"] == AFTER].assign(model=other, study=mine["study"].iloc[0])
    both = Answers(pd.concat([mine[mine["model"] == AFTER], theirs]), study.level)
    rows = []
    for name in claim.arguments["benchmarks"]:
        pair = both.pair(other, AFTER, [name], study.protocol, study.shots)
        if len(pair):
            place = {"benchmark": name, "subset": "all", "protocol": study.protocol}
            place |= {"shots": study.shots, "measure": DIFFERENCE}
            finding = both.difference(pair, other, AFTER)
            why = f"ours minus {AFTER} of study {other}"
            rows.append(judged(claim, finding, -claim.arguments["margin"], place, why=why))
    return rows
