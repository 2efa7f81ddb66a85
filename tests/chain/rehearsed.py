"""A rehearsal from the command line, and what it must leave behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from sm70lib.steps.steps import STEPS, mark
from sm70lib.study.params import ROOT

SAID = "Rehearsal, stand-in weights"


def rehearse(
    outputs: Path, *words: str, root: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess:
    """A rehearsal from the command line."""
    return subprocess.run(
        [sys.executable, "-m", "sm70lib", "rehearse", *words],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"SM70_OUTPUTS": str(outputs), "PYTHONPATH": str(root)} | environment,
    )


def check(folder: Path, said: str) -> None:
    """Everything that a study leaves behind is there, and says that it is a rehearsal."""
    assert all(mark(folder, step)["rehearsal"].startswith(SAID) for step in STEPS)
    assert json.loads((folder / "manifest.json").read_text())["rehearsal"].startswith(SAID)
    whole = [*folder.glob("stages/*/model/README.md"), *folder.glob("merged/*/README.md")]
    cards = [folder / "data/README.md", *folder.glob("stages/*/adapter/README.md"), *whole]
    assert len(cards) > 1 and all(SAID in card.read_text() for card in cards)
    assert not any("model-index" in card.read_text() for card in cards)
    tables = {path.stem: path.read_text() for path in folder.glob("tables/*.md")}
    assert {
        "results",
        "paper",
        "comparisons",
        "contamination_effect",
        "quoted",
        "scorecard",
    } <= tables.keys()
    assert all(text.startswith(SAID) for text in tables.values())
    pictures = list(folder.glob("figures/*.png"))
    assert {"accuracy", "contamination", "memory", "errors_flips"} <= {
        path.stem for path in pictures
    }
    assert all(SAID in Image.open(path).text["Description"] for path in pictures)
    pages = list(folder.glob("report/*.html"))
    beside = [page for page in pages if page.stem.startswith("beside-")]
    assert len(pages) - len(beside) == len(STEPS) + 2  # 07, and the report
    assert all(SAID in page.read_text() for page in pages)
    assert (
        "07_ask: finished" in said
        and f"cut: study {folder.name.removeprefix('rehearsal-')}" in said
    )
    results = pd.read_csv(folder / "tables/results.csv")
    assert results["n"].min() > 0 and len(pd.read_csv(folder / "tables/scorecard.csv")) >= 5
