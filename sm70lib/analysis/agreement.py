"""Does this run agree with the runs that were made before?

What a tiny model scores hangs on the last bits of its arithmetic, so that the same commit gives
other numbers on another processor. The evidence (`make evidence`) measured how far runs lie apart;
here one run is held against that.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sm70lib.statistics import spread
from sm70lib.study.keys import read
from sm70lib.study.params import ROOT, affects

EVIDENCE = ROOT / "outputs/reference/evidence"
# A run of another world may differ in these, and in what changes no result
FREE = ("world_seed", "train_seeds", "train_merge")
MADE_BY = ("world", "base", "data", "audit", "quant", "lora", "train")  # and the stages' own
ARMS = {"base-nf4": "base", "tuned": "tuned"}


def recipe(study: Path) -> dict[str, object]:
    """What makes a study's models: its parameters, and the wording of its world.

    Args:
        study: outputs/<study>, whose manifest and base there are.

    Returns:
        Parameters by name, of the stages that the study has alone; and `wording`, a digest of what
        the code writes for a world of its own (`tiny.wording`).
    """
    parameters = read(study / "manifest.json")["parameters"]
    parts = {*MADE_BY, *parameters.get("train_stages", ())}
    made = {
        name: value
        for name, value in parameters.items()
        if name.partition("_")[0] in parts and name not in FREE and affects(name) == "results"
    }
    return made | {"wording": read(study / "base/base.json").get("wording")}


def other_recipe(study: Path, evidence: Path = EVIDENCE) -> str:
    """Why a study cannot be held against the evidence; "" where it can.

    Args:
        study: outputs/<study>.
        evidence: where about.json of the evidence is.
    """
    was = read(evidence / "about.json")
    if not was:
        return "no evidence was made yet (make evidence)"
    if not (study / "manifest.json").exists():
        return "it has no manifest yet"
    then, here = was["recipe"], recipe(study)
    differs = [name for name in then if here.get(name) != then[name]]
    return f"it was made with another {', '.join(differs)}" if differs else ""


def table(found: pd.DataFrame, study: Path, evidence: Path = EVIDENCE) -> pd.DataFrame:
    """This run's accuracies beside where one further run was expected.

    Args:
        found: `tables.results` of the study.
        study: outputs/<study>.
        evidence: where runs.csv and about.json of the evidence are.

    Returns:
        A row for each model, benchmark and protocol that both have: this run's accuracy, the mean
        of the runs before with their SD, the interval that holds 95 % of further runs, and whether
        this run lies in it. Empty where there is no evidence of this recipe.
    """
    columns = ["benchmark", "protocol", "model", "this_run_pct", "mean_pct", "sd_pts"]
    columns += ["expected_low_pct", "expected_high_pct", "worlds", "agrees"]
    if other_recipe(study, evidence):
        return pd.DataFrame(columns=columns)
    runs = pd.read_csv(evidence / "runs.csv")
    mine = found[
        (found["study"] == study.name) & (found["subset"] == "all") & (found["shots"] == 0)
    ]
    rows = []
    for row in mine[mine["model"].isin(ARMS)].itertuples():
        same = runs[
            (runs["arm"] == ARMS[row.model])
            & (runs["benchmark"] == row.benchmark)
            & (runs["protocol"] == row.protocol)
        ]
        if len(same):
            over = spread.over_runs(same["acc_pct"], world=same["world_seed"])
            inside = over.next_low <= row.acc_pct <= over.next_high
            expected = max(over.next_low, 0), min(over.next_high, 100)
            values = [row.acc_pct, over.value, over.sd, *expected]
            rows.append(
                [row.benchmark, row.protocol, row.model]
                + [round(value, 1) for value in values]
                + [over.n, "yes" if inside else "no"]
            )
    return pd.DataFrame(rows, columns=columns)


def sentence(agreed: pd.DataFrame, why: str = "") -> str:
    """What the table says, and how little that is.

    Args:
        agreed: what `table` returned.
        why: what `other_recipe` returned.
    """
    if agreed.empty:
        return f"This run cannot be held against the committed runs: {why or 'nothing in common'}."
    inside = (agreed["agrees"] == "yes").sum()
    width = (agreed["expected_high_pct"] - agreed["expected_low_pct"]).max() / 2
    return (
        f"{inside} of {len(agreed)} accuracies lie where one further run was expected, from "
        f"{agreed['worlds'].max()} worlds. That is weak: a run may lie up to {width:.0f} points "
        "from the mean and still agree, so only a breakage would be noticed."
    )
