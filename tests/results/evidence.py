"""Is the tiny study's gain real? The claim over worlds and tuning seeds (make evidence).

Eight worlds that neither chose the recipe nor are reported; in each, two tunings of the same base,
and two of its control: that base tuned on questions about towns, so on the format alone. What a
single run shows hangs on the last bits of its arithmetic, so the claim is the mean over worlds of
tuned minus control, with a t interval over worlds.

Writes into outputs/reference/evidence: runs.csv (a row for each run, benchmark and protocol),
evidence.csv, controls.csv and evidence.md (the claims), about.json (recipe, hardware, commit).
Takes more than an hour on two cores, several worlds at once on one thread each, and goes on where
it stopped. `--only-table` reads what is there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, recall_score

from sm70lib import benchmarks
from sm70lib.analysis import frames
from sm70lib.claims import agreement
from sm70lib.parameters import aggregates
from sm70lib.statistics import spread
from sm70lib.steps.keys import read
from sm70lib.steps.steps import outputs
from sm70lib.study.files import write_json, write_text
from tests.results import worlds
from tests.results.worlds import FOLDER, markdown, run

STUDY = ["params/tiny.yml", "params/overlays/tiny-evidence.yml"]
CONTROL = [*STUDY, "params/overlays/tiny-control.yml"]
ARMS = {"base-nf4": "base", "tuned": "tuned", "tuned-1-sft-seed1": "tuned"}  # by model
SEED = {"base-nf4": 0, "tuned": 0, "tuned-1-sft-seed1": 1}
EXAM, TRAINED = "sm70-2023", "as-trained"
CLAIMED = ("medqa_4", "usmle", "pubmedqa")
PROBES = ("question-only", "report-unfinished")  # of the PubMedQA twin: the verdict cannot be known
MARGIN = 10  # points that the bound of tuned minus control must stand above 0
SLACK = 5  # points above the constant guesser that a probe may reach
FLIPS = 80  # percent of verdicts that must turn when the two agents are exchanged
LABELS = [0, 1, 2]  # yes, no, maybe


def world(seed: int) -> None:
    """Both studies of one world; the control takes its base over."""
    run(STUDY, f"evidence-{seed}", seed)
    run(CONTROL, f"control-{seed}", seed, "--from", f"evidence-{seed}")


def measured(seed: int) -> pd.DataFrame:
    """The rows of one world: accuracy and what stands beside it, by arm, tuning, benchmark,
    protocol.
    """
    rows = []
    for study in (f"evidence-{seed}", f"control-{seed}"):
        answers = frames.load(outputs(), [study])
        answers = frames.named(answers, aggregates.names(answers["benchmark"]))
        answers = answers[answers["model"].isin(ARMS)]
        for (model, benchmark, protocol), part in answers.groupby(
            ["model", "benchmark", "protocol"]
        ):
            arm = "control" if study.startswith("control") and model != "base-nf4" else ARMS[model]
            if study.startswith("control") and arm == "base":
                continue  # the same base once more
            about = {"world_seed": seed, "tuning_seed": SEED[model], "arm": arm}
            rows.append(about | {"benchmark": benchmark, "protocol": protocol} | _row(part))
    return pd.DataFrame(rows)


def _row(part: pd.DataFrame) -> dict:
    """Accuracy, by the raw likeliest option and with each option's prior taken off (percent)."""
    row = {
        "n": len(part),
        "acc_pct": 100 * part["correct"].mean(),
        "constant_pct": 100 * benchmarks.best_constant_accuracy(list(part["item"])),
    }
    if part["benchmark"].iloc[0] == "pubmedqa":
        row |= _verdicts(part)
    return row


def _verdicts(part: pd.DataFrame) -> dict:
    """Of the PubMedQA twin: without priors, macro-F1, recall of maybe, verdicts that turn."""
    scores = np.array(part["loglikelihoods"].tolist())
    corrected = (scores - scores.mean(0)).argmax(1)
    choice, gold = part["choice"].astype(int), part["gold"].astype(int)
    pairs = part.assign(choice=choice).groupby("pair")["choice"].agg(["size", "nunique"])
    whole = pairs[pairs["size"] == 2]
    return {
        "corrected_pct": 100 * (corrected == gold).mean(),
        "macro_f1_pct": 100 * f1_score(gold, choice, labels=LABELS, average="macro"),
        "recall_maybe_pct": 100
        * recall_score(gold, choice, labels=[2], average="macro", zero_division=0),
        "flips_pct": 100 * (whole["nunique"] == 2).mean(),
    }


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Tuned minus control over worlds, for every benchmark in the exam's and in a tuned layout."""
    rows = []
    for benchmark in CLAIMED:
        for protocol in (EXAM, TRAINED):
            here = runs[(runs["benchmark"] == benchmark) & (runs["protocol"] == protocol)]
            keys = ["world_seed", "tuning_seed"]
            tuned, control = (
                here[here["arm"] == arm].set_index(keys)["acc_pct"] for arm in ("tuned", "control")
            )
            gain = (tuned - control).dropna()
            over = spread.over_runs(gain, world=gain.index.get_level_values(0))
            alone = spread.over_runs(tuned, world=tuned.index.get_level_values(0))
            rows.append(
                {
                    "benchmark": benchmark,
                    "protocol": protocol,
                    "worlds": over.n,
                    "runs": len(gain),
                    "base_pct": here[here["arm"] == "base"]["acc_pct"].mean(),
                    "control_pct": control.mean(),
                    "tuned_pct": alone.value,
                    "sd_of_a_run_pts": alone.sd,
                    "one_run_low_pct": max(alone.next_low, 0),
                    "one_run_high_pct": min(alone.next_high, 100),
                    "gain_pts": over.value,
                    "low_pts": over.low,
                    "high_pts": over.high,
                    "holds": over.low >= MARGIN if protocol == EXAM else None,
                }
            )
    return pd.DataFrame(rows).round(1)


def controls(runs: pd.DataFrame) -> pd.DataFrame:
    """The PubMedQA twin's controls, over worlds: what must not be known, and what must turn."""
    tuned = runs[(runs["arm"] == "tuned") & (runs["benchmark"] == "pubmedqa")]
    exam = tuned[tuned["protocol"] == EXAM]
    guesser = exam["constant_pct"].mean()
    rows = []
    for probe in PROBES:
        over = _over(tuned[tuned["protocol"] == probe], "acc_pct")
        most = guesser + SLACK
        rows.append([f"accuracy under {probe}", over, f"at most {most:.1f}", over.high <= most])
    over = _over(exam, "flips_pct")
    rows.append(
        ["verdicts that turn with the agents", over, f"at least {FLIPS}", over.value >= FLIPS]
    )
    for name, text in (
        ("corrected_pct", "accuracy without each verdict's prior"),
        ("macro_f1_pct", "macro-F1"),
        ("recall_maybe_pct", "recall of maybe"),
    ):
        rows.append([text, _over(exam, name), "", None])
    return pd.DataFrame(
        [
            {"measure": text, "mean_pct": over.value, "low_pct": over.low, "high_pct": over.high}
            | {"asked": asked, "holds": holds}
            for text, over, asked, holds in rows
        ]
    ).round(1)


def _over(runs: pd.DataFrame, name: str) -> spread.OverRuns:
    return spread.over_runs(runs[name], world=runs["world_seed"])


def write(runs: pd.DataFrame) -> str:
    """Writes all files of the evidence; returns the text of evidence.md."""
    made, checked = claims(runs), controls(runs)
    count = runs["world_seed"].nunique()
    text = (
        f"{count} worlds, two tunings of each base. `gain_pts` is tuned minus control, the mean "
        f"over worlds with its 95 % t interval; the claim holds where `low_pts` is at least "
        f"{MARGIN}. `one_run` is where one further run in a world of its own may lie. Invented "
        f"worlds: this shows the method, not medicine.\n\n{markdown(made)}\n\n"
        "The PubMedQA twin of the tuned model. The control was never tuned on a report, so the "
        f"gain there is reading, not medicine.\n\n{markdown(checked)}\n"
    )
    write_text(FOLDER / "runs.csv", runs.round(2).to_csv(index=False))
    write_text(FOLDER / "evidence.csv", made.to_csv(index=False))
    write_text(FOLDER / "controls.csv", checked.to_csv(index=False))
    write_text(FOLDER / "evidence.md", text)
    first = outputs() / f"evidence-{runs['world_seed'].iloc[0]}"
    manifest = read(first / "manifest.json")
    about = {name: manifest[name] for name in ("commit", "versions", "hardware")}
    write_json(FOLDER / "about.json", about | {"recipe": agreement.recipe(first)})
    return text


def main() -> None:
    """The evidence for the tiny study."""
    worlds.drive(__doc__, world, "control-{}", measured, write)


if __name__ == "__main__":
    main()
