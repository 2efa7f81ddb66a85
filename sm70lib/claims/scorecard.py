"""The scorecard: each claim of the paper that a study is compared with, then the study's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sm70lib.analysis import frames, quoted
from sm70lib.claims import entries
from sm70lib.claims.case import EXPLORATORY, JUDGED, Row, Study
from sm70lib.claims.entries import OWN, STUDIES, Claim
from sm70lib.claims.estimates import Answers
from sm70lib.claims.judges import JUDGES
from sm70lib.parameters.own import titles
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


def _exploratory(row: Row) -> Row:
    return row | {"verdict": EXPLORATORY} if row["verdict"] in JUDGED else row


def _folded(left: list[Claim], answers: pd.DataFrame) -> list[Row]:
    """One row for all claims of the paper that this study's answers cannot judge."""
    if not left:
        return []
    if frames.fictional(answers):
        why = "invented world: nobody else was asked these questions"
    else:
        base, weights = answers.iloc[0][["base", "weights"]]
        bases = " and ".join(dict.fromkeys(name for claim in left for name in claim.bases))
        why = f"they are about {bases}; this base {frames.trained_here(weights) or f'is {base}'}"
    name = f"{len(left)} claims of {STUDIES[left[0].study]}"
    source = left[0].source
    return [{"claim": name, "as_compared": "", "verdict": NOT, "why": why, "source": source}]


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
