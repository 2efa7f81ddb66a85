"""Does this run agree with the runs that were made before?

A tiny model's score depends on the last bits of its arithmetic, so the same commit gives other
numbers on another processor. The evidence (`make evidence`) measured how far runs differ. This
module compares one run with it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import scipy.stats

from sm70lib.analysis.roles import ROLES
from sm70lib.parameters import aggregates
from sm70lib.presentation import names
from sm70lib.statistics import spread
from sm70lib.steps.keys import read
from sm70lib.study.params import ROOT, affects

EVIDENCE = ROOT / "outputs/reference/evidence"
# Parameters that may differ between worlds (besides those that change no result)
FREE = ("world_seed", "train_seeds", "train_merge")
MADE_BY = ("world", "base", "data", "audit", "quant", "lora", "train")  # and the study's stages
SEVERAL = 3  # parameters that a sentence names
ARMS = {role.name: role.arm for role in ROLES if role.arm}


def recipe(study: Path) -> dict[str, object]:
    """What a study's models are made from: its parameters, and the wording of its world.

    Args:
        study: outputs/<study>, which has a manifest and a base.

    Returns:
        Parameters by name, only of the stages that the study has; and `wording`, a digest of the
        texts that the code writes for a generated world (`tiny.wording`).
    """
    parameters = read(study / "manifest.json")["parameters"]
    parts = {*MADE_BY, *parameters.get("train_stages", ())}
    made = {}
    for name, value in parameters.items():
        in_parts = name.partition("_")[0] in parts
        if in_parts and name not in FREE and affects(name) == "results":
            made[name] = value
    return made | {"wording": read(study / "base/base.json").get("wording")}


def other_recipe(study: Path, evidence: Path = EVIDENCE) -> str:
    """Why a study cannot be compared with the evidence; "" where it can.

    Args:
        study: outputs/<study>.
        evidence: the folder of the evidence's about.json.
    """
    about = read(evidence / "about.json")
    if not about:
        return "no evidence was made yet (make evidence)"
    if not (study / "manifest.json").exists():
        return "it has no manifest yet"
    then, here = about["recipe"], recipe(study)
    differs = [name for name in then if here.get(name) != then[name]]
    if len(differs) > SEVERAL:
        differs = [*differs[:SEVERAL], f"{len(differs) - SEVERAL} more parameters"]
    return f"it was made with another {names.listed(differs)}" if differs else ""


def table(found: pd.DataFrame, study: Path, evidence: Path = EVIDENCE) -> pd.DataFrame:
    """This run's accuracies beside the range in which one further run was expected.

    Args:
        found: `accuracies.results` of the study.
        study: outputs/<study>.
        evidence: the folder of the evidence's runs.csv and about.json.

    Returns:
        A row for each model, benchmark and protocol that both have: this run's accuracy, the mean
        and the SD of the earlier runs, the interval that holds 95 % of further runs, and whether
        this run lies in it. USMLE stands once, all steps together, so that no answer is counted
        twice. Empty where there is no evidence of this recipe.
    """
    columns = ["benchmark", "protocol", "model", "this_run_pct", "mean_pct", "sd_pts"]
    columns += ["expected_low_pct", "expected_high_pct", "worlds", "agrees"]
    if other_recipe(study, evidence):
        return pd.DataFrame(columns=columns)
    runs = pd.read_csv(evidence / "runs.csv")
    mine = found[
        (found["study"] == study.name) & (found["subset"] == "all") & (found["shots"] == 0)
    ]
    once = aggregates.names(mine["benchmark"], (aggregates.POOLED,), members=False)
    mine = mine[mine["benchmark"].isin(once) & mine["model"].isin(ARMS)]
    rows = []
    for row in mine.itertuples():
        same = runs[
            (runs["arm"] == ARMS[row.model])
            & (runs["benchmark"] == row.benchmark)
            & (runs["protocol"] == row.protocol)
        ]
        if len(same):
            rows.append([row.benchmark, row.protocol, row.model, *_held(row.acc_pct, same)])
    return pd.DataFrame(rows, columns=columns)


def _held(accuracy: float, earlier: pd.DataFrame) -> list:
    """The cells of `table` from `this_run_pct` on: one accuracy (percent) against earlier runs."""
    over = spread.over_runs(earlier["acc_pct"], world=earlier["world_seed"])
    inside = over.next_low <= accuracy <= over.next_high
    expected = max(over.next_low, 0), min(over.next_high, 100)
    values = [accuracy, over.value, over.sd, *expected]
    return [*(round(value, 1) for value in values), over.n, "yes" if inside else "no"]


def too_many(comparisons: int) -> int:
    """How many comparisons outside their 95 % intervals count as a disagreement.

    Args:
        comparisons: how many there are.

    Returns:
        The number that chance alone reaches in less than 1 of 40 runs. This takes comparisons as
        independent. They are not, so in truth chance reaches it somewhat more often.
    """
    return int(scipy.stats.binom.ppf(0.975, comparisons, 0.05)) + 1


def sentence(agreed: pd.DataFrame, why: str = "") -> str:
    """What the table says in words, and how weak that evidence is.

    Args:
        agreed: what `table` returned.
        why: what `other_recipe` returned.
    """
    if agreed.empty:
        return f"This run cannot be held against the committed runs: {why or 'nothing in common'}."
    inside = (agreed["agrees"] == "yes").sum()
    below = agreed["mean_pct"] - agreed["expected_low_pct"]
    above = agreed["expected_high_pct"] - agreed["mean_pct"]
    return (
        f"{inside} of {len(agreed)} accuracies lie where one further run was expected, from "
        f"{agreed['worlds'].max()} worlds; 95 % are expected to, and {too_many(len(agreed))} or "
        "more outside would count as a disagreement. That is weak evidence: a run may lie up to "
        f"{max(below.max(), above.max()):.0f} points from the mean and still agree."
    )
