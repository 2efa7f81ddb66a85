"""The scorecard: each claim of the paper that a study is compared with, then the study's own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from sm70lib.analysis import frames, quoted
from sm70lib.claims import entries
from sm70lib.claims.case import EXPLORATORY, JUDGED, Row, Study
from sm70lib.claims.entries import OWN, STUDIES, Claim
from sm70lib.claims.estimates import CONSTANT, Answers
from sm70lib.claims.judges import JUDGES
from sm70lib.parameters.own import titles
from sm70lib.presentation import names
from sm70lib.statistics import stats

NOT = "not comparable"
COLUMNS = (
    "claim benchmark subset protocol shots n measure reference ours low high as_compared verdict "
    "why source"
).split()


def build(
    answers: pd.DataFrame, compared: pd.DataFrame, p, how: stats.How, folder: Path
) -> pd.DataFrame:
    """Every claim with its rows.

    Args:
        answers: answers of this study and of further ones (`frames.load`).
        compared: `comparisons.comparisons` of these.
        p: the parameters of the study.
        how: the level of the bounds.
        folder: outputs/<study>, which has its marks; further studies lie beside it.

    Returns:
        One row per claim and place; `reference`, `ours`, `low` and `high` are in percent or points.
        `as_compared` is the order against a printed value, `verdict` the order under the same
        protocol; one of the two is empty where only the other applies.
    """
    study = _study(answers, compared, p, how, folder)
    catalogue = entries.catalogue()
    family = entries.held_against(p.study)
    base = study.answers.rows["base"].iloc[0]
    papers = [claim for claim in catalogue if claim.study == family and claim.made_of(p.study)]
    fictional = frames.fictional(study.answers.rows)
    judged = [claim for claim in papers if claim.about(base) and (claim.only or not fictional)]
    judged += [claim for claim in catalogue if claim.study == OWN]
    left = [claim for claim in papers if claim not in judged]
    rows = _folded(left, study.answers.rows)
    # A study with a declared family of its own has no other; what else it says is exploratory.
    declared = any(claim.judge == "arms" for claim in judged)
    for claim in judged:
        found = JUDGES[claim.judge](claim, study)
        rows += map(_exploratory, found) if declared and claim.study == OWN else found
    return pd.DataFrame(rows, columns=COLUMNS).astype({"shots": "Int64", "n": "Int64"})


def exported(card: pd.DataFrame) -> str:
    """The scorecard as a list of claims, for programs: JSON with null where there is no value.

    Args:
        card: as `build` makes it.

    Returns:
        One object per row: the claim, where it was judged, the number with its interval and unit,
        what it is compared with, the verdict and the reason.
    """
    rows = []
    for row in card.astype(object).where(card.notna(), None).to_dict("records"):
        place = {name: row[name] for name in ("benchmark", "subset", "protocol", "shots", "n")}
        number = {"value": row["ours"], "low": row["low"], "high": row["high"]}
        about = {"claim": row["claim"], "source": row["source"], "place": place}
        about |= {"measure": row["measure"], "estimate": number, "reference": row["reference"]}
        judged = {name: row[name] for name in ("as_compared", "verdict", "why")}
        rows.append(about | judged)
    return json.dumps(_finite(rows), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The value with None for an infinite bound, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _exploratory(row: Row) -> Row:
    """A row without its verdict; why a constant answer would have none stays."""
    return row | {"verdict": EXPLORATORY} if row["verdict"] in (*JUDGED, CONSTANT) else row


def _folded(left: list[Claim], answers: pd.DataFrame) -> list[Row]:
    """One row for all claims of the paper that this study's answers cannot judge."""
    if not left:
        return []
    if frames.fictional(answers):
        why = "invented world: nobody else was asked these questions"
    else:
        base, weights = answers.iloc[0][["base", "weights"]]
        bases = names.listed(list(dict.fromkeys(name for claim in left for name in claim.bases)))
        why = f"they are about {bases}; this base {frames.trained_here(weights) or f'is {base}'}"
    title = f"{len(left)} claims of {STUDIES[left[0].study]}"
    source = left[0].source
    return [{"claim": title, "as_compared": "", "verdict": NOT, "why": why, "source": source}]


def _study(answers: pd.DataFrame, compared: pd.DataFrame, p, how: stats.How, folder: Path) -> Study:
    """What the judges see of the study."""
    own = answers[answers["study"] == p.study]
    return Study(
        answers=Answers(own, how.level),
        others={name: part for name, part in answers.groupby("study") if name != p.study},
        before=frames.before(own),
        compared=compared[compared["study"] == p.study],
        protocol=p.eval_primary_protocol,
        shots=p.eval_primary_shots,
        primary=titles(p.eval_primary_benchmarks),
        quotes=quoted.usable(quoted.read()),
        folder=folder,
    )
