"""Judges of what every study claims of itself."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from sm70lib import benchmarks
from sm70lib.claims.case import ACCURACY, AFTER, DIFFERENCE, Row, Study, holm, judged
from sm70lib.claims.entries import Claim


def primary(claim: Claim, study: Study) -> list[Row]:
    """The declared comparison: tuned above the model that tuning started from, by Holm's p."""
    claim = replace(claim, claim=claim.claim.format(before=study.before))
    rows = []
    for place in _places(study):
        both = study.pair(study.before, place, [place["benchmark"]])
        if both.empty:
            continue
        finding = study.answers.difference(both, study.before, AFTER)
        found = judged(claim, finding, 0, place | {"measure": DIFFERENCE})
        if place["subset"] != "all":
            found["why"] = found["why"] or "without leaked items; not one of the declared family"
        elif _guesses(study, place):
            found["why"] = found["why"] or f"{AFTER} is no better than the best constant guesser"
        rows.append(holm(found, study, study.before))
    return rows


def floor(claim: Claim, study: Study) -> list[Row]:
    """Tuned against the best guesser that never reads the question, for each kind of item apart.

    Arguments: margin (points).
    """
    rows = []
    for place in _places(study, kinds=True):
        part = study.part(AFTER, place)
        rows += [_above_guesser(claim, study, place, part)] if len(part) else []
    return rows


def letters(claim: Claim, study: Study) -> list[Row]:
    """In an invented world, that a model tuned on texts cannot choose by letter.

    Arguments: margin (points), protocols, benchmarks.
    """
    if not study.answers.rows["kind"].notna().any():
        return []
    names = [name for name in study.primary if name in claim.arguments["benchmarks"]]
    rows = []
    for protocol in claim.arguments["protocols"]:
        for name in names:
            place = {"benchmark": name, "subset": "all", "protocol": protocol, "shots": study.shots}
            part = study.part(AFTER, place)
            rows += [_above_guesser(claim, study, place, part, -1)] if len(part) else []
    return rows


def four_bits(claim: Claim, study: Study) -> list[Row]:
    """What NF4 costs the base, over benchmarks pooled.

    Arguments: margin (points), benchmarks.
    """
    names, margin = claim.arguments["benchmarks"], claim.arguments["margin"]
    both = study.answers.pair("base", "base-nf4", names, study.protocol, study.shots)
    if both.empty:
        return []
    asked = [name for name in names if name in set(both["benchmark"])]
    place = {"benchmark": " + ".join(asked), "subset": "all", "protocol": study.protocol}
    finding = study.answers.difference(both, "base", "base-nf4")
    return [
        judged(
            _worded(claim),
            finding,
            -margin,
            place | {"shots": study.shots, "measure": DIFFERENCE},
        )
    ]


def no_worse(claim: Claim, study: Study) -> list[Row]:
    """That tuning costs a benchmark of requests less than a margin.

    Arguments: margin (points), benchmark.
    """
    name, margin = claim.arguments["benchmark"], claim.arguments["margin"]
    place = {"benchmark": name, "subset": "all", "protocol": "safety", "shots": 0}
    both = study.pair(study.before, place, [name])
    if both.empty:
        return []
    finding = study.answers.difference(both, study.before, AFTER)
    return [judged(_worded(claim), finding, -margin, place | {"measure": DIFFERENCE})]


def _places(study: Study, kinds: bool = False) -> list[Row]:
    """The declared benchmarks, whole; where they leak much clean; with `kinds` each kind apart."""
    places = []
    for name in study.primary:
        place = {"benchmark": name, "protocol": study.protocol, "shots": study.shots}
        subsets = study.subsets([name], study.protocol, study.shots)
        found = study.part(AFTER, place | {"subset": "all"})["kind"].dropna()
        subsets += sorted(set(found)) if kinds else []
        places += [place | {"subset": subset} for subset in subsets]
    return places


def _above_guesser(
    claim: Claim, study: Study, place: Row, part: pd.DataFrame, sign: int = 1
) -> Row:
    guess = 100 * benchmarks.best_constant_accuracy(list(part["item"]))
    finding, reference = study.answers.accuracy(part), round(guess, 1) + claim.arguments["margin"]
    return judged(_worded(claim), finding, reference, place | {"measure": ACCURACY}, sign)


def _guesses(study: Study, place: Row) -> bool:
    """Whether tuned is not shown to be above the best constant guesser."""
    part = study.part(AFTER, place)
    estimate = study.answers.accuracy(part).estimate
    guess = benchmarks.best_constant_accuracy(list(part["item"]))
    return estimate is not None and estimate.low <= guess


def _worded(claim: Claim) -> Claim:
    return replace(claim, claim=claim.claim.format(**claim.arguments))
