"""A small slice of the campaign of faults (make faults), and its judge."""

import json
import os
import random
import subprocess
import sys

import pytest

from sm70lib.study.files import write_text
from sm70lib.study.params import ROOT
from tests.faults.campaign import trials
from tests.faults.campaign.__main__ import make_one
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Ended
from tests.faults.campaign.trials import Kind, Trial

KINDS = ("params", "params-command", "rows", "rows-exam", "steps", "moves", "artefacts", "trainer")
SENTENCE = "error: the disk is full"
ERROR = "Traceback (most recent call last):\n  File x\nOSError: full"


def test_a_slice_of_the_campaign_goes_on_where_it_stopped_and_writes_its_table(tmp_path):
    words = ["-m", "tests.faults.campaign", "--share", "0.003", "--to", str(tmp_path), "--only"]
    environment = os.environ | {"SM70_OUTPUTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = tmp_path / "faults/trials.jsonl"
    before = [
        {"kind": "params", "number": number, "commit": "c", "note": "", "outcome": outcome}
        | {"seconds": 0.0, "cost": 0.0}
        for number, outcome in enumerate((trials.SURVIVED, trials.UNJUDGED))
    ]
    write_text(done, "".join(f"{json.dumps(trial)}\n" for trial in before))
    command = [sys.executable, *words, *KINDS]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    made = [json.loads(line) for line in done.read_text().splitlines()]
    assert made[0] == before[0] and before[1] not in made, "what was not judged is made again"
    assert len(made) > len(KINDS) and {trial["kind"] for trial in made} == set(KINDS)
    about = json.loads((tmp_path / "faults.json").read_text())
    assert about["trials"] == len(made) and about["fallen"] == []
    assert "What cannot be survived" in (tmp_path / "faults.md").read_text()


@pytest.mark.parametrize(
    "code, said, again, differing, killed, outcome",
    [
        (-9, "", 0, [], True, trials.SURVIVED),
        (-9, "", 0, ["tables/main.csv"], True, trials.SILENT),
        (-9, "", 2, [], True, trials.TRACEBACK),
        (0, "", 0, [], False, trials.SURVIVED),
        (0, "", 0, ["adapter"], False, trials.SILENT),
        (1, SENTENCE, 0, [], False, trials.SENTENCE),
        (1, SENTENCE, 0, ["adapter"], False, trials.SILENT),
        (1, ERROR, 0, [], False, trials.TRACEBACK),
        (1, f"{ERROR}\n{SENTENCE}", 0, [], False, trials.TRACEBACK),
        (1, "full", 0, [], False, trials.TRACEBACK),
    ],
)
def test_the_judge_looks_at_what_is_left_and_at_what_was_said(
    code, said, again, differing, killed, outcome
):
    ended = Ended(code, said, 0), Ended(again, SENTENCE, 1.5)
    judged = trials.after(*ended, differing, killed)
    assert (judged.outcome, judged.seconds) == (outcome, 1.5)


def test_the_judge_sees_what_differs_but_for_times(tmp_path):
    for name, seconds, right in (("a", 1, True), ("b", 2, True), ("c", 2, False)):
        (tmp_path / name).mkdir()
        line = json.dumps({"item_id": "i", "seconds": seconds, "correct": right})
        (tmp_path / name / "x.jsonl").write_text(line + "\n")
    a, b, c = (trials.content(tmp_path / name, ("*.jsonl",)) for name in "abc")
    assert trials.differing(a, b) == [] and trials.differing(a, c) == ["x.jsonl"]
    assert trials.differing(a, {}) == ["x.jsonl"]


def test_a_trial_that_writes_outside_or_runs_code_is_seen(tmp_path):
    place = Place(tmp_path)

    def outside(draw: random.Random, place: Place) -> Trial:
        (place.folder / "mine.txt").write_text("allowed")
        (place.folder.parent / "neighbour/mine.txt").unlink()
        return Trial(trials.SURVIVED)

    def runs(draw: random.Random, place: Place) -> Trial:
        place.canary.touch()
        return Trial(trials.SURVIVED)

    def fails(draw: random.Random, place: Place) -> Trial:
        raise ValueError("the campaign's own")

    ways = {outside: trials.OUTSIDE, runs: trials.CODE, fails: trials.UNJUDGED}
    for way, outcome in ways.items():
        kind = Kind(way.__name__, "", "", 1, way)
        assert make_one(kind, random.Random(0), place).outcome == outcome
    well = Kind("well", "", "", 1, lambda draw, place: Trial(trials.SURVIVED))
    assert make_one(well, random.Random(0), place).outcome == trials.SURVIVED
