"""Scoring that is killed ends with the lines of an undisturbed run."""

import random
import subprocess
import sys
import time

import pytest

from sm70lib.evaluation import evaluating
from sm70lib.models import loading
from sm70lib.study.params import ROOT
from tests import small
from tests.asked import kept, run_of


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    small.base(folder)
    return loading.load(folder / "base/model"), loading.load_tokenizer(folder / "base/model")


SCORES = """
import pathlib, sys, time
from tests.asked import run_of
from sm70lib.evaluation import scoring
from sm70lib.models import loading, local
real = local.loglikelihoods
def slowly(*given):  # or it would be over before it is killed
    time.sleep(0.02)
    return real(*given)
local.loglikelihoods = slowly
base, path = sys.argv[1:]
loaded = loading.load(base), loading.load_tokenizer(base)
scoring.evaluate(*loaded, run_of(60), pathlib.Path(path), model_digest="m", batch_tokens=300)
"""


def test_killed_five_times_ends_with_the_lines_of_an_undisturbed_run(loaded, tmp_path):
    """Real processes, killed at random moments once lines are there: none twice, none lost, none
    half-written.
    """
    whole, cut, draw = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl", random.Random(5)
    command = [sys.executable, "-c", SCORES, loaded[0].name_or_path]
    evaluating.evaluate(*loaded, run_of(60), whole, model_digest="m", batch_tokens=300)
    killed, before = 0, 0
    while killed < 5:
        process = subprocess.Popen([*command, str(cut)], cwd=ROOT)
        while (
            process.poll() is None
            and (cut.read_bytes().count(b"\n") if cut.exists() else 0) <= before
        ):
            time.sleep(0.005)
        time.sleep(draw.random() * 0.1)
        assert process.poll() is None, "over before it could be killed"
        process.kill()
        process.wait()
        killed, before = killed + 1, cut.read_bytes().count(b"\n")
        if killed == 3:  # and once more in the middle of a line
            cut.write_bytes(cut.read_bytes()[:-20])
    assert 0 < before < 60
    subprocess.run([*command, str(cut)], cwd=ROOT, check=True, timeout=120)
    assert len(kept(whole)) == 60 and kept(cut) == kept(whole)
