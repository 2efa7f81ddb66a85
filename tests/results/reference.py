"""Makes the committed results of the tiny study again, or compares a new run with them.

`make reference` makes them; with CHECK=1 it compares. outputs/reference/tiny/ holds what a reader
wants to see and what 05 and 06 need to run again: executed notebooks, predictions, tables, figures,
marks. It holds no weights and no pretraining text.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd

from sm70lib.claims import agreement
from sm70lib.presentation import names
from sm70lib.steps.steps import outputs
from sm70lib.study.params import ROOT
from tests.benchmarks import gpu_tables
from tests.results import small, studies

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
# The relative drift allowed for a loss. The last bits of the arithmetic hardly move losses. They
# move the accuracies of a tiny model by tens of points, so these are compared with the spread that
# `make evidence` measured.
LOSS_TOLERANCE = 0.02


def stripped(path: Path) -> str:
    """An executed notebook without what differs in every run.

    That is metadata with times and paths, and the outputs of cells tagged `volatile`.
    """
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
    """Finishes the study, and copies the parts that are kept."""
    subprocess.run(
        [sys.executable, "-m", "sm70lib", "run", "params/tiny.yml"], cwd=ROOT, check=True
    )
    study = outputs() / "tiny"
    shutil.rmtree(REFERENCE, ignore_errors=True)
    for part in PARTS:
        for source in sorted(study.glob(part)):
            _copy(source, REFERENCE / source.relative_to(study))
    (REFERENCE / "notebooks").mkdir()
    for path in sorted(study.glob("notebooks/*.ipynb")):
        (REFERENCE / "notebooks" / path.name).write_text(stripped(path))
    write_blocks()
    size = sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file())
    print(f"{size / 1e6:.1f} MB in {REFERENCE}")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def summary() -> str:
    """The committed results: the paper's table, and the tuned model by kind of fact."""
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
    tuned = tuned.assign(cell=cell, benchmark=tuned["benchmark"].map(names.benchmark))
    kinds = tuned.pivot(index="benchmark", columns="subset", values="cell")
    kinds = kinds[["known", "fact", "condition"]].set_axis(
        ["asked in tuning, reworded", "never asked", "condition never mentioned"], axis=1
    )
    paper = (REFERENCE / "tables/paper.md").read_text().strip()
    heading = "Accuracy of the tuned model, by what tuning covered:"
    return f"{paper}\n\n{heading}\n\n{kinds.to_markdown()}\n"


def speeds() -> str:
    """The table of speeds on a processor: our code beside the usual alternative, as last measured.

    `make bench` measures it. What was measured on a GPU has tables of its own (gpu_tables).
    """
    measured: list[dict] = []
    for path in sorted((ROOT / "outputs/reference/benchmarks").glob("*.json")):
        if not path.name.startswith("gpu_"):
            measured += json.loads(path.read_text())
    rows = [
        {
            "what": speed["name"],
            "work": speed["work"],
            "ours": _rate(speed["ours"]),
            "theirs": _rate(speed["theirs"]),
            "unit": speed["unit"],
            "ratio": f"**{speed['ratio']}** {_spread(*speed['spread'])}",
            "goal": "" if speed["goal"] is None else speed["goal"],
        }
        for speed in measured
        if speed.get("ratio") is not None
    ]
    form = {"index": False, "disable_numparse": True}
    table = pd.DataFrame(rows)
    sides = ["right" if name in ("ours", "theirs", "goal") else "left" for name in table]
    return table.to_markdown(colalign=sides, **form) + "\n"


def _rate(rate: float) -> str:
    """A speed with a comma between thousands, and decimals only if it is small."""
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:,}"


def evidence() -> str:
    """The claim over several worlds, as `make evidence` last measured it."""
    path = ROOT / "outputs/reference/evidence/evidence.csv"
    if not path.exists():
        return "(not made yet)\n"
    made = pd.read_csv(path)
    rows = [
        {
            "benchmark": names.benchmark(row.benchmark),
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
    table = pd.DataFrame(rows).to_markdown(index=False)
    return f"{table}\n\n{_controls(path.with_name('controls.csv'))}"


def _controls(path: Path) -> str:
    """A line for each declared control of the PubMedQA twin: the result, and whether it was met."""
    declared = pd.read_csv(path).dropna(subset="asked")
    lines = []
    for row in declared.itertuples():
        measured = f"{row.mean_pct} % [{row.low_pct}, {row.high_pct}]"
        verdict = "met" if row.holds else "missed"
        lines.append(f"- {row.measure}: {measured}, declared {row.asked} %: **{verdict}**\n")
    return "".join(lines)


def _spread(low: float, high: float) -> str:
    return "(one round)" if low == high else f"[{low}, {high}]"


# Every generated block: the comments around it name it, and it stands in this file.
BLOCKS: dict[str, tuple[str, Callable[[], str]]] = {
    "reference": ("README.md", summary),
    "evidence": ("README.md", evidence),
    "small": ("README.md", small.block),
    "studies": ("README.md", studies.block),
    "speeds": ("outputs/reference/speed.md", speeds),
    "gpu": ("outputs/reference/speed.md", gpu_tables.tables),
}


def around(name: str) -> tuple[str, str, str]:
    """The file of a generated block: what stands before the block, the block, and what follows.

    Raises:
        ValueError: the file has no such block.
    """
    file, _ = BLOCKS[name]
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text = (ROOT / file).read_text()
    if begin not in text or end not in text:
        raise ValueError(f"{file} lacks the comments {begin.strip()} and {end}: write them again")
    before, _, rest = text.partition(begin)
    block, _, after = rest.partition(end)
    return before + begin, block, end + after


def write_blocks() -> None:
    """Writes every generated block again, each in its file."""
    for name, (file, made) in BLOCKS.items():
        before, _, after = around(name)
        (ROOT / file).write_text(before + made() + after)
    studies.LIST.write_text(studies.listed())


def check() -> None:
    """Runs the study afresh in another folder, and compares it with the reference.

    Losses must agree within LOSS_TOLERANCE, and accuracies within the spread of the evidence.

    Raises:
        SystemExit: they do not agree.
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
        agreed = agreement.table(found, study)
        why = agreement.other_recipe(study)
        before = pd.Series(losses(REFERENCE))
        after = pd.Series(losses(study))
    drift = (after / before - 1).abs()
    print(
        f"{len(drift)} losses compared, largest drift {drift.max():.2%} "
        f"(tolerance {LOSS_TOLERANCE:.0%})"
    )
    print(agreement.sentence(agreed, why))
    if not drift.max() <= LOSS_TOLERANCE:  # also where it is not a number
        sys.exit(f"losses drift, so the training itself changed:\n{drift.to_string()}")
    outside = agreed[agreed["agrees"] == "no"]
    if len(outside) >= agreement.too_many(len(agreed)):
        sys.exit(
            "losses agree, but accuracies lie outside the spread of other runs:\n"
            f"{outside.to_string()}"
        )


def losses(study: Path) -> dict[str, float]:
    """The last loss of pretraining and the last held-out loss of each stage (nats a token)."""
    last = {"base": _last(study / "base/metrics.jsonl", "loss")}
    for path in study.glob("stages/*/metrics.jsonl"):
        last[path.parent.name] = _last(path, "eval_loss")
    return last


def _last(path: Path, column: str) -> float:
    return pd.read_json(path, lines=True)[column].dropna().iloc[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare a new run with the reference")
    parser.add_argument(
        "--readme", action="store_true", help="only write the tables of BLOCKS again"
    )
    given = parser.parse_args()
    if given.check:
        check()
    elif given.readme:
        write_blocks()
    else:
        make()
