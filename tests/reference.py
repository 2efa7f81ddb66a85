"""Makes the committed results of the tiny study again (make reference), or tells how far a new run drifts (CHECK=1).

outputs/reference/tiny/ holds what a reader wants to see and what 05 and 06 need to be run again: executed
notebooks, predictions, tables, figures, marks. Weights and pretraining text stay out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pandas as pd

from sm70lib.analysis import agreement
from sm70lib.study.params import ROOT
from sm70lib.study.steps import outputs

REFERENCE = ROOT / "outputs/reference/tiny"
PARTS = (
    "predictions",
    "tables",
    "figures",
    "steps",
    "memory.csv",
    "data/*.csv",
    "data/benchmarks",
    "base/metrics.jsonl",
    "base/base.json",
    "stages/*/metrics.jsonl",
)
# Of a loss. Accuracies of a tiny model move by tens of points with the last bits of its arithmetic, and are held
# against the spread that `make evidence` measured; losses hardly move.
LOSS_TOLERANCE = 0.02


def stripped(path: Path) -> str:
    """An executed notebook without what no two runs share: times, paths, and outputs of cells tagged `volatile`."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        if cell.cell_type == "code" and "volatile" in cell.metadata["tags"]:
            cell.outputs = []
    return nbformat.writes(notebook) + "\n"


def make() -> None:
    """Runs the study where it is not finished, and copies what is kept."""
    subprocess.run(
        [sys.executable, "-m", "sm70lib", "run", "params/tiny.yml"], cwd=ROOT, check=True
    )
    study = outputs() / "tiny"
    shutil.rmtree(REFERENCE, ignore_errors=True)
    for source in (path for part in PARTS for path in sorted(study.glob(part))):
        target = REFERENCE / source.relative_to(study)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (REFERENCE / "notebooks").mkdir()
    for path in sorted(study.glob("notebooks/*.ipynb")):
        (REFERENCE / "notebooks" / path.name).write_text(stripped(path))
    write_readme()
    print(
        f"{sum(path.stat().st_size for path in REFERENCE.rglob('*') if path.is_file()) / 1e6:.1f} MB in {REFERENCE}"
    )


def summary() -> str:
    """The README's results: the paper's table, and the tuned model by held-out kind, as committed."""
    results = pd.read_csv(REFERENCE / "tables/results.csv")
    tuned = results[
        (results["model"] == "tuned")
        & (results["protocol"] == "sm70-2023")
        & (results["shots"] == 0)
    ]
    tuned = tuned[
        tuned["subset"].isin(["known", "fact", "condition"])
        & tuned["benchmark"].isin(["medqa_4", "usmle"])
    ]
    cell = [
        f"{row.acc_pct} [{row.low_pct}, {row.high_pct}] n={row.n}" for row in tuned.itertuples()
    ]
    kinds = tuned.assign(cell=cell).pivot(index="benchmark", columns="subset", values="cell")
    kinds = kinds[["known", "fact", "condition"]].set_axis(
        ["asked in tuning, in other words", "never asked", "condition never mentioned"], axis=1
    )
    return (
        f"{(REFERENCE / 'tables/paper.md').read_text().strip()}\n\nThe tuned model by what tuning had told it:\n\n"
        f"{kinds.to_markdown()}\n"
    )


def speeds() -> str:
    """The README's speed table: what `make bench` measured last, ours beside what one would pick instead."""
    files = sorted((ROOT / "outputs/reference/benchmarks").glob("*.json"))
    made = [
        one
        for path in files
        for one in json.loads(path.read_text())
        if one.get("ratio") is not None
    ]
    rows = [
        {
            "what": one["name"],
            "work": one["work"],
            "ours": one["ours"],
            "theirs": one["theirs"],
            "unit": one["unit"],
            "ratio": f"**{one['ratio']}** {_spread(*one['spread'])}",
            "goal": one["goal"],
        }
        for one in made
    ]
    return pd.DataFrame(rows).to_markdown(index=False) + "\n"


def evidence() -> str:
    """The README's claim over worlds: what `make evidence` found last."""
    path = ROOT / "outputs/reference/evidence/evidence.csv"
    if not path.exists():
        return "(not made yet)\n"
    made = pd.read_csv(path)
    rows = [
        {
            "benchmark": row.benchmark,
            "protocol": row.protocol,
            "worlds": row.worlds,
            "runs": row.runs,
            "base": row.base_pct,
            "control": row.control_pct,
            "tuned": row.tuned_pct,
            "one run": f"{max(row.one_run_low_pct, 0)} to {min(row.one_run_high_pct, 100)}",
            "gain (points)": f"**{row.gain_pts}** [{row.low_pts}, {row.high_pts}]",
        }
        for row in made.itertuples()
    ]
    return (
        pd.DataFrame(rows).to_markdown(index=False)
        + "\n\n"
        + _controls(path.with_name("controls.csv"))
    )


def _controls(path: Path) -> str:
    """A line for each declared control of the PubMedQA twin: what was found, and whether that is as declared."""
    declared = pd.read_csv(path).dropna(subset="asked")
    lines = [
        f"- {row.measure}: {row.mean_pct} % [{row.low_pct}, {row.high_pct}], declared {row.asked} %: "
        f"**{'met' if row.holds in (True, 1, 'True') else 'missed'}**\n"
        for row in declared.itertuples()
    ]
    return "".join(lines)


def _spread(low: float, high: float) -> str:
    return "(one round)" if low == high else f"[{low}, {high}]"


def write_readme() -> None:
    """Puts summary and speeds between the README's marks."""
    path = ROOT / "README.md"
    for mark, text in (("reference", summary()), ("evidence", evidence()), ("speeds", speeds())):
        before, _, rest = path.read_text().partition(f"<!-- {mark} -->\n")
        path.write_text(
            f"{before}<!-- {mark} -->\n{text}<!-- /{mark} -->{rest.partition(f'<!-- /{mark} -->')[2]}"
        )


def check() -> None:
    """Runs the study afresh elsewhere and compares with the reference; exits with 1 where it broke.

    Losses must agree within LOSS_TOLERANCE, accuracies with the spread of the evidence.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "sm70lib", "run", "params/tiny.yml"],
            cwd=ROOT,
            check=True,
            env=os.environ | {"SM70_OUTPUTS": folder},
        )
        study = Path(folder) / "tiny"
        found = pd.read_csv(study / "tables/results.csv")
        agreed, why = agreement.table(found, study), agreement.other_recipe(study)
        before, after = (pd.Series(losses(place)) for place in (REFERENCE, study))
    apart = (after / before - 1).abs()
    print(
        f"{len(apart)} losses compared, largest drift {apart.max():.2%} (tolerance {LOSS_TOLERANCE:.0%})"
    )
    print(agreement.sentence(agreed, why))
    if not apart.max() <= LOSS_TOLERANCE:
        sys.exit(f"losses drift, so the training itself changed:\n{apart.to_string()}")
    if "no" in set(agreed["agrees"]):
        outside = agreed[agreed["agrees"] == "no"]
        sys.exit(
            f"losses agree, and accuracies lie outside the spread of other runs:\n{outside.to_string()}"
        )


def losses(study: Path) -> dict[str, float]:
    """The last loss of pretraining and the last held-out loss of each stage (nats a token)."""
    paths = {
        "base": study / "base/metrics.jsonl",
        **{path.parent.name: path for path in study.glob("stages/*/metrics.jsonl")},
    }
    return {
        name: pd.read_json(path, lines=True)["loss" if name == "base" else "eval_loss"]
        .dropna()
        .iloc[-1]
        for name, path in paths.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare a new run with the reference")
    parser.add_argument(
        "--readme", action="store_true", help="only write the README's tables again"
    )
    given = parser.parse_args()
    check() if given.check else write_readme() if given.readme else make()
