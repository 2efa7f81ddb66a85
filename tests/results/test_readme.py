"""What the README names is there, and its commands are commands."""

import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from sm70lib import protocols
from sm70lib.study import params
from sm70lib.study.params import ROOT
from tests.results import evidence, reference, studies, worlds

README = (ROOT / "README.md").read_text()
# Those that are read here; what a study writes has other documents.
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "params", ROOT / "notebooks", ROOT / "outputs/reference")
    for path in folder.glob("*.md")
)


def test_what_is_said_of_the_evidence_is_what_was_found():
    """The claims follow from the runs by scipy's t, and not only by the library that wrote them."""
    folder = ROOT / "outputs/reference/evidence"
    runs, found = pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "evidence.csv")
    assert len(found) == 6
    for row in found.itertuples():
        here = runs[(runs["benchmark"] == row.benchmark) & (runs["protocol"] == row.protocol)]
        means = here.pivot_table(index="world_seed", columns="arm", values="acc_pct")
        gain = means["tuned"] - means["control"]
        interval = ttest_1samp(gain, 0).confidence_interval()
        assert (row.gain_pts, row.low_pts) == pytest.approx((gain.mean(), interval.low), abs=0.06)
        assert row.worlds == len(gain) >= 2 and row.runs == 2 * row.worlds
    assert set(found["worlds"]) == {len(worlds.WORLDS)}
    exams = found[found["protocol"] == "sm70-2023"]
    assert (exams["low_pts"] >= 10).all() and (exams["holds"].astype(bool)).all()
    controls = (
        pd.read_csv(folder / "controls.csv").set_index("measure")["holds"].dropna().astype(bool)
    )
    assert controls[[f"accuracy under {probe}" for probe in evidence.PROBES]].all()
    assert README.count("**missed**") == (~controls).sum(), (
        "what was declared and not found is said"
    )


def test_every_room_and_protocol_named_exists():
    table = (ROOT / "notebooks/README.md").read_text().partition("## Three ways")[0]
    there = {path.parent.name for path in (ROOT / "sm70lib").glob("*/__init__.py")}
    assert set(re.findall(r"`(\w+)/`", table)) - there == set()
    wings = (ROOT / "CONTRIBUTING.md").read_text().partition("| wing |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)/` \|", wings, re.MULTILINE)) == there
    listed = (ROOT / "params/protocols.md").read_text()
    named = set(re.findall(r"^\| `([\w-]+)` \|", listed, re.MULTILINE))
    assert {protocol.name for protocol in protocols.PROTOCOLS} == named


def test_the_commands_for_hands_run():
    documents = "\n".join(document.read_text() for document in DOCUMENTS)
    listings = "\n".join(re.findall(r"^```\n(.*?)^```", documents, re.MULTILINE | re.DOTALL))
    written = re.findall(r"^(?:python|papermill|make) .*$", listings, re.MULTILINE)
    lines = {tuple(shlex.split(line.partition("#")[0])) for line in written}
    assert len(lines) >= 12
    for words in sorted(lines):
        if words[0] == "make":
            done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        elif words[0] == "python":
            probe = "--list" if "run" in words else "--help"  # a rehearsal has tests of its own
            done = subprocess.run(
                [sys.executable, *words[1:], probe], cwd=ROOT, capture_output=True, text=True
            )
        else:
            notebook = next(word for word in words if word.startswith("notebooks/"))
            done = subprocess.run(
                [sys.executable, "-m", "papermill", "--help-notebook", notebook],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
        assert done.returncode == 0, (words, done.stderr)


def test_the_table_of_studies_is_what_their_plans_say():
    """Of two studies: one that was measured, and one that is planned."""
    _, block, _ = reference.around("studies")
    rows = [line.split("|")[1:-1] for line in block.strip().split("\n")[2:]]
    written = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}
    assert len(written) == len(studies.STUDIES)
    with studies.nothing_here():
        for name in ("tiny", "sm70"):
            planned = studies.row(params.load(ROOT / f"params/{name}.yml"))
            assert written[planned.pop("study")] == list(planned.values())
