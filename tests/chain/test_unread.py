"""05, 06 and the report go on where a score has mostly unread replies."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from sm70lib import report
from sm70lib.study.params import ROOT
from tests import synthetic
from tests.page import Page
from tests.unit.claims.test_unread import REQUESTS, written

BEFORE = {"base": 0, "base-nf4": 0, "tuned": 0}
ALL = dict.fromkeys(BEFORE, 60)
# Primary protocol and benchmarks; what is written: protocol, benchmarks, unread replies
STUDIES = {
    "one run of safety": ("sm70-2023", ["medqa_4"], [("safety", REQUESTS, BEFORE | {"tuned": 60})]),
    "every run of safety": ("sm70-2023", ["medqa_4"], [("safety", REQUESTS, ALL)]),
    "the primary one": (
        "generate",
        ["medqa_4"],
        [("generate", ("medqa_4",), BEFORE | {"tuned": 41})],
    ),
    "everything": ("safety", list(REQUESTS), [("safety", REQUESTS, ALL)]),
}


def run_cells(name: str, folder: Path, p: SimpleNamespace) -> None:
    """Runs the code of a notebook, but for its check of parameters and its marks."""

    def path(relative: str) -> Path:
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        return folder / relative

    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][3:-1]
    from sm70lib.steps import steps

    scope = {
        "p": p,
        "step": SimpleNamespace(folder=folder, path=path),
        "steps": steps,
        "display": lambda shown: shown,
    }
    for source in code:
        exec(source, scope)


@pytest.mark.parametrize("case", STUDIES)
def test_05_06_and_the_report_go_on(case, tmp_path, monkeypatch):
    primary, names, files = STUDIES[case]
    only = case == "everything"
    folder = synthetic.study(tmp_path, world=False, sizes={"medqa_4": 60, "usmle_step1": 30})
    if only:
        shutil.rmtree(folder / "predictions")
    for protocol, asked, unread in files:
        written(folder, protocol, asked, unread)
    (folder / "base/base.json").write_text(json.dumps({"model": "some/base"}))
    p = SimpleNamespace(
        study="made",
        seed=0,
        eval_primary_protocol=primary,
        eval_primary_shots=0,
        eval_primary_benchmarks=names,
        errors_examples=2,
        figures_dpi=60,
        figures_palette="colorblind",
        figures_studies=[],
        stats_resamples=100,
        stats_level=0.95,
    )
    for name in ("05_error_analysis", "06_figures"):
        run_cells(name, folder, p)
    plt.close("all")
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    words = " ".join("".join(Page(report.build("made").read_text()).words).split())
    card = pd.read_csv(folder / "tables/scorecard.csv")
    lost = card[card["verdict"] == "no score"]
    assert (
        len(lost) >= 1
        and words.count("no score") > len(lost)
        and "nan" not in words.lower().split()
    )
    unread = "41 of 60 replies unread" if primary == "generate" else "60 of 60 replies unread"
    assert f"no score: {unread}" in words and lost["why"].str.startswith(unread).all()
    if primary == "generate":
        first_screen = words.partition("How to read this")[0]
        assert f"{unread} (tuned)no score" in first_screen, "what the page begins with"
    assert len(list((folder / "figures").glob("*.png"))) >= 5
