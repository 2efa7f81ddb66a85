"""The table of the campaign: outputs/reference/faults.md and faults.json."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from sm70lib.steps.steps import write_json, write_text
from sm70lib.study.params import ROOT
from sm70lib.study.provenance import circumstances
from tests.faults.campaign.catalogue import KINDS
from tests.faults.campaign.trials import GOOD, OUTCOMES, UNJUDGED

FOLDER = ROOT / "outputs/reference"

HEAD = """# Faults

What was done to studies on purpose, and how it ended. `make faults` makes all of it again: it goes
on where it stopped, and `python -m tests.faults.campaign --share 0.05` makes a twentieth. Every
trial has random numbers of its own, which follow from a seed.

A trial is judged by what is left behind, never by the marks that the library sets: the files of an
undisturbed run are compared with those of the disturbed one after the same command was given again.
"""

BEFORE = """## What fell before

Earlier runs of the campaign found these. They are mended, their trials were made again with the
same random numbers, and each has a test in `tests/faults/test_found.py` or beside what it mends.

- A mark that came with a shared study had files of somebody else moved.
- A kill while a result moved to `replaced/` or back had finished training done again.
- A file that a killed process had half written stayed, and counted as part of its step's result.
- An empty folder in the place of a file ended every run.
- The metrics of a resumed training counted tokens from 0 again.
- A column of an exam with another name took its option from every question.
"""

CANNOT = """## What cannot be survived

- **A disk that forgets what it has confirmed.** Files are written beside their place, flushed and
  renamed. A disk that loses what it said it had stored can lose the last of them. Their digests
  show it, and their step runs again.
- **Damage to the only copy of something that was given.** A study file, a source, a benchmark or a
  base that is the user's own is read and never repaired. Its digest is in the manifest, so that the
  next run says that it has changed. Before the first run nobody knows how it was: a letter that is
  another one in a source is read as it stands there.
- **Somebody who may write to the study's folder and means harm.** Marks and digests show accidents.
  Who can change a result can change the mark beside it too. What such a person cannot do is to
  have code run, or to have files written outside the folder.
- **Work since the last checkpoint.** A kill costs at most `train_save_steps` steps in 03, a batch
  in 04, and in 01 the shards under way: of a source in one file, that is the source.
- **A machine that computes otherwise.** A run that goes on with another processor, another number
  of processes or other versions ends well, but its last bits are not those of an undisturbed run.
- **Two machines whose clocks or locks do not agree.** There is one writer a study where file locks
  work. On a network file system without locks, two machines can write to one study.
- **Dozens of kernels that plain papermill starts in one moment on a busy machine.** Jupyter may
  give two of them the same port, and the one that loses ends in papermill's traceback. The study is
  whole, and the same command goes on.
- **Damage that keeps size and time.** It is found when somebody reads: the next step that reads the
  file, or the report. A list of what would run (`--list`) reads no content, and does not see it.
"""


def forget(done: Path, only: list[str]) -> None:
    """Takes trials out of the file of finished ones: those of some kinds, or all."""
    if done.exists():
        lines = done.read_text().splitlines(keepends=True)
        kept = [line for line in lines if only and json.loads(line)["kind"] not in only]
        write_text(done, "".join(kept))


def write(done: Path, folder: Path = FOLDER) -> int:
    """Writes the table of finished trials, and prints it; 1 if anything fell.

    Args:
        done: The file of finished trials.
        folder: Where faults.md and faults.json go.
    """
    trials = pd.DataFrame([json.loads(line) for line in done.read_text().splitlines()])
    counted = _counted(trials)
    fallen = trials[~trials["outcome"].isin(GOOD)]
    about = {name: circumstances()[name] for name in ("versions", "hardware")}
    sums = {end: int((trials["outcome"] == end).sum()) for end in OUTCOMES}
    about |= {"commits": sorted(trials["commit"].dropna().unique()), "trials": len(trials)}
    about |= {"outcomes": sums, "kinds": counted.to_dict("records")}
    about |= {"fallen": fallen[["kind", "number", "outcome", "note"]].to_dict("records")}
    write_json(folder / "faults.json", about)
    write_text(folder / "faults.md", _document(trials, counted, fallen, about))
    print(counted.drop(columns=["attacked", "judged"]).to_string(index=False))
    return int(len(fallen) > 0)


def _counted(trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind: how many trials there were, how they ended, and the worst of them."""
    rows = []
    for kind in KINDS:
        mine = trials[trials["kind"] == kind.name]
        if mine.empty:
            continue
        ends = {end: int((mine["outcome"] == end).sum()) for end in OUTCOMES}
        row = {"kind": kind.name, "attacked": kind.attacked, "judged": kind.judged}
        row |= {"planned": kind.count, "tried": len(mine), **ends}
        row["worst_s"] = round(float(mine["seconds"].max()), 1)
        row["cost"] = f"{mine['cost'].max():g} {kind.cost}" if kind.cost else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _document(
    trials: pd.DataFrame, counted: pd.DataFrame, fallen: pd.DataFrame, about: dict
) -> str:
    hardware, versions = about["hardware"], about["versions"]
    shown = counted.rename(columns={"worst_s": "worst recovery (s)", "cost": "most lost"})
    empty = [end for end in (UNJUDGED,) if not shown[end].any()]
    table = shown.drop(columns=["kind", "judged", *empty]).to_markdown(index=False)
    judged = counted[["attacked", "judged"]].to_markdown(index=False)
    meanings = "\n".join(f"- **{end}**: {OUTCOMES[end]}." for end in OUTCOMES if end not in empty)
    sums = ", ".join(f"{count:,} {end}" for end, count in about["outcomes"].items() if count)
    packages = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers"))
    fell = "Nothing fell."
    if len(fallen):
        fell = "What fell:\n\n" + fallen[["kind", "number", "outcome", "note"]].to_markdown(
            index=False
        )
    made = (
        f"{len(trials):,} trials at {', '.join(about['commits'])}, on {hardware['cores']} cores "
        f"({hardware['cpu']}) with {hardware['memory_gb']:g} GB; {packages}. Together: {sums}."
    )
    return "\n".join(
        [
            HEAD,
            "## The table\n",
            made + "\n",
            table + "\n",
            "*Worst recovery* is what the command after the fault took of the processor until all "
            "was whole.\n*Most lost* is the most work of one trial that had to be done again.\n",
            meanings + "\n",
            fell + "\n",
            BEFORE,
            "## How outcomes are judged\n",
            "What is attacked, and what is compared.\n",
            judged + "\n",
            CANNOT,
        ]
    )
