"""Judges of claims about other systems, by their printed values and by their scores here."""

from __future__ import annotations

from itertools import product

import pandas as pd

from sm70lib.analysis import quoted
from sm70lib.analysis.roles import TUNED
from sm70lib.claims.case import (
    ACCURACY,
    DIFFERENCE,
    OTHERWISE,
    UNTESTED,
    Row,
    Study,
    bare,
    holm,
    interval,
    judged,
    row,
)
from sm70lib.claims.entries import Claim
from sm70lib.claims.estimates import Finding
from sm70lib.statistics import stats, verdicts

# As far as we can tell, papers print USMLE as the mean of the steps.
PRINTED_AS = {"usmle": "usmle_macro"}


def against(claim: Claim, study: Study) -> list[Row]:
    """Ours beside the printed values of a system, and beside that system where it was scored here.

    Arguments: system, sign, benchmarks; optionally model, protocol and shots.
    """
    wanted = claim.arguments
    protocol = wanted.get("protocol", study.protocol)
    shots = wanted.get("shots", study.shots)
    rows: list[Row] = []
    for benchmark in wanted["benchmarks"]:
        for subset in study.subsets([benchmark], protocol, shots):
            place = {"protocol": protocol, "shots": shots}
            place |= {"benchmark": benchmark, "subset": subset}
            here = _scored_here(claim, study, place)
            printed = _printed(claim, study, place)
            if here:  # the scores here decide; a printed value adds nothing to that verdict
                printed = [cells | {"verdict": ""} for cells in printed]
            rows += printed + here
    if rows:
        return rows
    needs = f"it did not ask {', '.join(wanted['benchmarks'])} under {protocol}"
    return [bare(claim, UNTESTED, f"{needs}, and {wanted['system']} printed or scored beside it")]


def wider(claim: Claim, study: Study) -> list[Row]:
    """Whether a system is further above us on one benchmark than on another, as sources print it.

    Arguments: system, on, than_on.
    """
    wanted = claim.arguments
    names = [wanted["on"], wanted["than_on"]]
    place = {"subset": "all", "protocol": study.protocol, "shots": study.shots}
    parts = [study.part(TUNED, place | {"benchmark": name}) for name in names]
    if any(part.empty for part in parts):
        return [bare(claim, UNTESTED, f"it did not ask {', '.join(names)} under {study.protocol}")]
    ours = [study.answers.accuracy(part) for part in parts]
    place |= {"benchmark": " - ".join(names), "measure": "difference of gaps (points)"}
    first, second = (
        quoted.nearest(_of(study, wanted["system"], name), study.shots) for name in names
    )
    rows = []
    for pair in product(first, second):
        if pair[0]["source"] != pair[1]["source"]:
            continue
        finding, order = _apart(ours, pair, study)
        asked = f"printed: {quoted.asked(pair[0])}, and {quoted.asked(pair[1])}"
        cells = row(claim, finding, 0, place) | {"as_compared": order, "verdict": OTHERWISE}
        rows.append(cells | {"why": finding.why or asked, "source": pair[0]["source"]})
    return rows or [bare(claim, UNTESTED, f"no source prints both {', '.join(names)}")]


def _of(study: Study, system: str, benchmark: str) -> pd.DataFrame:
    quotes = study.quotes
    return quotes[(quotes["system"] == system) & (quotes["benchmark"] == benchmark)]


def _printed(claim: Claim, study: Study, place: Row) -> list[Row]:
    """A row for each printed value, against ours with the shots that it has or may have."""
    place = place | {"benchmark": PRINTED_AS.get(place["benchmark"], place["benchmark"])}
    quotes = _of(study, claim.arguments["system"], place["benchmark"])
    rows = []
    for quote in quoted.once(quoted.nearest(quotes, place["shots"])):
        scored = _by_shots(study, place, quoted.counts(quote, "shots"))
        if not scored:
            scored = _by_shots(study, place, [place["shots"]])
        if scored:
            rows.append(_ordered(claim, study, place, quote, scored))
    return rows


def _by_shots(study: Study, place: Row, tried: list[int]) -> dict[int, Finding]:
    """Our accuracy at a place with each of these numbers of shots, where it was asked."""
    scored = {}
    for shots in tried:
        part = study.part(TUNED, place | {"shots": shots})
        if len(part):
            scored[shots] = study.answers.accuracy(part)
    return scored


def _ordered(
    claim: Claim, study: Study, place: Row, quote: dict, scored: dict[int, Finding]
) -> Row:
    """One printed value against our accuracies (by shots), for every n that it may stand for."""
    declared, sign = place["shots"], claim.arguments["sign"]
    shots = declared if declared in scored else min(scored)
    ours = scored[shots]
    cells = row(claim, ours, quote["value_pct"], place | {"shots": shots, "measure": ACCURACY})
    cells |= {"source": quote["source"], "verdict": OTHERWISE}
    for finding in scored.values():
        if finding.instead:
            return cells | {"as_compared": finding.instead, "why": finding.why}
    sizes = quoted.counts(quote, "n")
    findings = [ours, *(finding for number, finding in scored.items() if number != shots)]
    gaps = [
        quoted.gap(finding.known, quote, n, study.level) for finding, n in product(findings, sizes)
    ]
    if quoted.same(quote, place["protocol"], shots, ours.n):
        cells["verdict"] = verdicts.judged(gaps[0], 0.0, sign) if sign else ""
    apart = f"ours minus it {interval(gaps[0])} at n {sizes[0]}; " if gaps else ""
    own = f"ours: {place['protocol']}; {shots}-shot; n {ours.n}"
    cells["as_compared"] = quoted.order(gaps, sign)
    cells["why"] = f"{apart}printed: {quoted.asked(quote)}; {own}"
    return cells


def _apart(ours: list[Finding], quotes: tuple[dict, dict], study: Study) -> tuple[Finding, str]:
    """How much further we are from the first value than from the second, for every plausible n."""
    n = sum(finding.n for finding in ours)
    for finding in ours:
        if finding.instead:
            return Finding(None, n, finding.instead, finding.why), finding.instead
    first, second = (finding.known for finding in ours)
    spaces = []
    for n_first, n_second in product(*(quoted.counts(quote, "n") for quote in quotes)):
        gap = quoted.gap(first, quotes[0], n_first, study.level)
        other = quoted.gap(second, quotes[1], n_second, study.level)
        spaces.append(stats.minus(other, gap))  # theirs minus ours, so the other way round
    if not spaces:
        return Finding(None, n), quoted.NO_N
    return Finding(spaces[0], n), quoted.order(spaces, 1)


def _scored_here(claim: Claim, study: Study, place: Row) -> list[Row]:
    """The claim on the items that the other model answered in this study too."""
    wanted = claim.arguments
    if "model" not in wanted:
        return []
    rows = []
    for model in study.models_named(wanted["model"]):
        both = study.pair(model, place, [place["benchmark"]])
        if both.empty:
            continue
        finding = study.answers.difference(both, model, TUNED)
        why = f"ours minus {model}, which scored {100 * both['correct_a'].mean():.1f} here"
        place_here = place | {"measure": DIFFERENCE}
        judgement = judged(claim, finding, 0, place_here, wanted["sign"], why)
        rows.append(holm(judgement, study, model))
    return rows
