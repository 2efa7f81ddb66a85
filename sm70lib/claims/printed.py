"""Judges of claims about other systems: the values that are printed of them, and what they score here."""

from __future__ import annotations

import pandas as pd

from sm70lib.analysis import quoted
from sm70lib.claims.case import (
    ACCURACY,
    AFTER,
    DIFFERENCE,
    OTHERWISE,
    UNTESTED,
    Row,
    Study,
    bare,
    holm,
    interval,
    judged,
    listed,
    row,
)
from sm70lib.claims.entries import Claim
from sm70lib.claims.estimates import MACRO, Finding
from sm70lib.statistics import stats, verdicts

PRINTED_AS = {"usmle": MACRO}  # papers print USMLE as the mean of the steps, as far as can be told


def against(claim: Claim, study: Study) -> list[Row]:
    """Ours beside the printed values of a system, and beside that system where it was scored here.

    Arguments: system, sign, benchmarks; model, protocol and shots where these are given.
    """
    how = claim.arguments
    place = {
        "protocol": how.get("protocol", study.protocol),
        "shots": how.get("shots", study.shots),
    }
    rows: list[Row] = []
    for benchmark in how["benchmarks"]:
        for subset in study.subsets([benchmark], **place):
            at = place | {"benchmark": benchmark, "subset": subset}
            here = _scored_here(claim, study, at)
            shown = _printed(claim, study, at)
            if here:  # a printed value that came about otherwise has nothing to add to that
                shown = [one | {"verdict": ""} for one in shown]
            rows += shown + here
    if rows:
        return rows
    needs = f"it takes {listed(how['benchmarks'])} under {place['protocol']}"
    return [bare(claim, UNTESTED, f"{needs}, and {how['system']} printed or scored beside it")]


def wider(claim: Claim, study: Study) -> list[Row]:
    """Whether a system is further above us on one benchmark than on another, as sources print it.

    Arguments: system, on, than_on.
    """
    how = claim.arguments
    names = [how["on"], how["than_on"]]
    place = {"subset": "all", "protocol": study.protocol, "shots": study.shots}
    parts = [study.part(AFTER, place | {"benchmark": name}) for name in names]
    if any(part.empty for part in parts):
        return [bare(claim, UNTESTED, f"it takes {listed(names)} under {study.protocol}")]
    ours = [study.answers.accuracy(part) for part in parts]
    place |= {"benchmark": " - ".join(names), "measure": "difference of gaps (points)"}
    first, second = (quoted.nearest(_of(study, how["system"], name), study.shots) for name in names)
    rows = []
    for one, other in ((a, b) for a in first for b in second if a["source"] == b["source"]):
        finding, order = _apart(ours, (one, other), study)
        found = row(claim, finding, 0, place)
        said = f"printed: {quoted.asked(one)}, and {quoted.asked(other)}"
        found |= {"as_compared": order, "verdict": OTHERWISE}
        rows.append(found | {"why": finding.why or said, "source": one["source"]})
    return rows or [bare(claim, UNTESTED, f"no source prints both {listed(names)}")]


def _of(study: Study, system: str, benchmark: str) -> pd.DataFrame:
    quotes = study.quotes
    return quotes[(quotes["system"] == system) & (quotes["benchmark"] == benchmark)]


def _printed(claim: Claim, study: Study, place: Row) -> list[Row]:
    """A row for each printed value; ours with the shots that it has, or may have."""
    place = place | {"benchmark": PRINTED_AS.get(place["benchmark"], place["benchmark"])}
    quotes, rows = _of(study, claim.arguments["system"], place["benchmark"]), []
    for quote in quoted.once(quoted.nearest(quotes, place["shots"])):
        for tried in (quoted.counts(quote, "shots"), [place["shots"]]):
            parts = {shots: study.part(AFTER, place | {"shots": shots}) for shots in tried}
            scored = {n: study.answers.accuracy(part) for n, part in parts.items() if len(part)}
            if scored:
                rows.append(_ordered(claim, study, place, quote, scored))
                break
    return rows


def _ordered(
    claim: Claim, study: Study, place: Row, quote: dict, scored: dict[int, Finding]
) -> Row:
    """One printed value against our accuracies (by shots), for every n that it may stand for."""
    declared, sign = place["shots"], claim.arguments["sign"]
    shots = declared if declared in scored else min(scored)
    ours = scored[shots]
    found = row(claim, ours, quote["value_pct"], place | {"shots": shots, "measure": ACCURACY})
    found["source"] = quote["source"]
    if instead := [one for one in scored.values() if one.instead]:
        said = {"as_compared": instead[0].instead, "why": instead[0].why}
        return found | said | {"verdict": OTHERWISE}
    sizes = quoted.counts(quote, "n")
    first = [ours, *(one for number, one in scored.items() if number != shots)]
    gaps = [quoted.gap(one.estimate, quote, n, study.level) for one in first for n in sizes]
    verdict = OTHERWISE
    if quoted.same(quote, place["protocol"], shots, ours.n):
        verdict = verdicts.judged(gaps[0], 0.0, sign) if sign else ""
    apart = f"ours minus it {interval(gaps[0])} at n {sizes[0]}; " if gaps else ""
    own = f"ours: {place['protocol']}; {shots}-shot; n {ours.n}"
    return found | {
        "as_compared": quoted.order(gaps, sign),
        "verdict": verdict,
        "why": f"{apart}printed: {quoted.asked(quote)}; {own}",
    }


def _apart(ours: list[Finding], quotes: tuple[dict, dict], study: Study) -> tuple[Finding, str]:
    """How much further we are from the first value than from the second, for every plausible n."""
    n = sum(found.n for found in ours)
    if said := next((found for found in ours if found.instead), None):
        return Finding(None, n, said.instead, said.why), said.instead
    spaces = []
    for sizes in (
        (a, b) for a in quoted.counts(quotes[0], "n") for b in quoted.counts(quotes[1], "n")
    ):
        gaps = [
            quoted.gap(found.estimate, quote, size, study.level)
            for found, quote, size in zip(ours, quotes, sizes)
        ]
        spaces.append(stats.minus(gaps[1], gaps[0]))  # theirs minus ours, so the other way round
    if not spaces:
        return Finding(None, n), quoted.NO_N
    return Finding(spaces[0], n), quoted.order(spaces, 1)


def _scored_here(claim: Claim, study: Study, place: Row) -> list[Row]:
    """The claim on the items that the other model answered in this study too."""
    how, rows = claim.arguments, []
    for model in study.models_named(how["model"]) if "model" in how else []:
        both = study.pair(model, place, [place["benchmark"]])
        if both.empty:
            continue
        finding = study.answers.difference(both, model, AFTER)
        why = f"ours minus {model}, which scored {100 * both['correct_a'].mean():.1f} here"
        found = judged(claim, finding, 0, place | {"measure": DIFFERENCE}, how["sign"], why)
        rows.append(holm(found, study, model))
    return rows
