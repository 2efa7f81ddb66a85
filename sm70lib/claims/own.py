"""Judges of what every study claims of itself."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from sm70lib import benchmarks
from sm70lib.analysis import frames
from sm70lib.analysis.roles import BASE, BASE_NF4, TUNED
from sm70lib.claims.case import ACCURACY, DIFFERENCE, Row, Study, holm, judged
from sm70lib.claims.entries import Claim


def primary(claim: Claim, study: Study) -> list[Row]:
    """The declared comparison: tuned is above the model that tuning started from, by Holm's p."""
    claim = replace(claim, claim=claim.claim.format(before=study.before))
    rows = []
    for place in _places(study):
        both = study.pair(study.before, place, [place["benchmark"]])
        if both.empty:
            continue
        finding = study.answers.difference(both, study.before, TUNED)
        judgement = judged(claim, finding, 0, place | {"measure": DIFFERENCE})
        note = ""
        if place["subset"] != "all":
            note = "without leaked items; not one of the declared family"
        elif _guesses(study, place):
            note = f"{TUNED} is not shown to be above the best constant guesser"
        judgement["why"] = judgement["why"] or note
        rows.append(holm(judgement, study, study.before))
    return rows


def floor(claim: Claim, study: Study) -> list[Row]:
    """Tuned against the best constant guesser, which never reads the question, by kind of item.

    Arguments: margin (points).
    """
    rows = []
    for place in _places(study, kinds=True):
        part = study.part(TUNED, place)
        if len(part):
            rows.append(_above_guesser(claim, study, place, part))
    return rows


def letters(claim: Claim, study: Study) -> list[Row]:
    """That a model tuned on texts cannot choose by letter; only judged in a generated world.

    Arguments: margin (points), protocols, benchmarks.
    """
    if not frames.fictional(study.answers.rows):
        return []
    names = [name for name in study.primary if name in claim.arguments["benchmarks"]]
    rows = []
    for protocol in claim.arguments["protocols"]:
        for name in names:
            place = {"benchmark": name, "subset": "all", "protocol": protocol, "shots": study.shots}
            part = study.part(TUNED, place)
            if len(part):
                rows.append(_above_guesser(claim, study, place, part, -1))
    return rows


def four_bits(claim: Claim, study: Study) -> list[Row]:
    """What quantising to NF4 costs the base, over all benchmarks together.

    Arguments: margin (points), benchmarks.
    """
    names, margin = claim.arguments["benchmarks"], claim.arguments["margin"]
    both = study.answers.pair(BASE, BASE_NF4, names, study.protocol, study.shots)
    if both.empty:
        return []
    asked = [name for name in names if name in set(both["benchmark"])]
    place: Row = {"benchmark": " + ".join(asked), "subset": "all", "protocol": study.protocol}
    place |= {"shots": study.shots, "measure": DIFFERENCE}
    finding = study.answers.difference(both, BASE, BASE_NF4)
    return [judged(_worded(claim), finding, -margin, place)]


def no_worse(claim: Claim, study: Study) -> list[Row]:
    """That tuning costs a benchmark of requests less than a margin.

    Arguments: margin (points), benchmark.
    """
    name, margin = claim.arguments["benchmark"], claim.arguments["margin"]
    place = {"benchmark": name, "subset": "all", "protocol": "safety", "shots": 0}
    both = study.pair(study.before, place, [name])
    if both.empty:
        return []
    finding = study.answers.difference(both, study.before, TUNED)
    return [judged(_worded(claim), finding, -margin, place | {"measure": DIFFERENCE})]


def _places(study: Study, kinds: bool = False) -> list[Row]:
    """The declared benchmarks, in the subsets of `Study.subsets`; with `kinds`, by kind too."""
    places = []
    for name in study.primary:
        place = {"benchmark": name, "protocol": study.protocol, "shots": study.shots}
        subsets = study.subsets([name], study.protocol, study.shots)
        if kinds:
            answers = study.part(TUNED, place | {"subset": "all"})
            subsets += sorted(set(answers["kind"].dropna()))
        places += [place | {"subset": subset} for subset in subsets]
    return places


def _above_guesser(
    claim: Claim, study: Study, place: Row, part: pd.DataFrame, sign: int = 1
) -> Row:
    """A row on tuned against the best constant guesser plus the claim's margin."""
    guess = 100 * benchmarks.best_constant_accuracy(list(part["item"]))
    reference = round(guess, 1) + claim.arguments["margin"]
    finding = study.answers.accuracy(part)
    return judged(_worded(claim), finding, reference, place | {"measure": ACCURACY}, sign)


def _guesses(study: Study, place: Row) -> bool:
    """Whether tuned has not been shown to be above the best constant guesser."""
    part = study.part(TUNED, place)
    estimate = study.answers.accuracy(part).estimate
    guess = benchmarks.best_constant_accuracy(list(part["item"]))
    return estimate is not None and estimate.low <= guess


def _worded(claim: Claim) -> Claim:
    """The claim with its arguments filled in."""
    return replace(claim, claim=claim.claim.format(**claim.arguments))
