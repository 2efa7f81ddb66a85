"""Scoring that is killed ends with the lines of an undisturbed run."""

import multiprocessing
import random
import time
from functools import partial
from pathlib import Path

import pytest

from sm70lib.evaluation import one_run
from sm70lib.models import loading
from sm70lib.models.backend import Local
from sm70lib.serving.served import Served
from sm70lib.standins.server import ModelServer
from sm70lib.study.others import Server
from tests import small
from tests.asked import answered, kept, run_of
from tests.faults import scorer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    small.base(folder)
    return loading.load(folder / "base/model"), loading.load_tokenizer(folder / "base/model")


def written(path: Path) -> int:
    """How many lines are there."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_five_times_ends_with_the_lines_of_an_undisturbed_run(loaded, tmp_path):
    """Real processes, killed at random moments once lines are there: none twice, none lost, none
    half-written.
    """
    whole, cut, draw = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl", random.Random(5)
    one_run.evaluate(Local(*loaded), run_of(60), whole, model_digest="m", batch_tokens=300)
    given = (scorer.score, loaded[0].name_or_path, cut)
    killed_and_finished(given, cut, 5, draw)
    assert len(kept(whole)) == 60 and kept(cut) == kept(whole)


def killed_and_finished(given: tuple, cut: Path, kills: int, draw: random.Random) -> None:
    """Starts a scorer, kills it so many times once it has written more lines, and lets it end.

    Args:
        given: the function of `scorer`, and its arguments but for the pause.
        cut: the file that it writes.
        kills: how often it is killed; after the third time, the last line is cut as well.
        draw: when, within a tenth of a second.
    """
    # Each process is forked from one that has imported everything.
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload([scorer.__name__])

    def start(pause: float):
        process = forked.Process(target=given[0], args=(*given[1:], pause))
        process.start()
        return process

    killed, before = 0, 0
    while killed < kills:
        process = start(0.1)
        while process.is_alive() and written(cut) <= before:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.1)
        assert process.is_alive(), "over before it could be killed"
        process.kill()
        process.join()
        killed, before = killed + 1, written(cut)
        if killed == 3:  # and once more in the middle of a line
            cut.write_bytes(cut.read_bytes()[:-20])
    assert 0 < before < 60
    process = start(0)
    process.join(600)
    assert process.exitcode == 0


def test_a_full_disk_is_named_and_scoring_goes_on(loaded, tmp_path, monkeypatch):
    run, path = run_of(12), tmp_path / "predictions.jsonl"
    full = partial(open, "/dev/full", "a")  # every write to it fails, as on a full disk
    with monkeypatch.context() as patch:
        patch.setattr(one_run, "open", lambda *_, **__: full(), raising=False)
        with pytest.raises(OSError, match="No space left on device: .*predictions.jsonl"):
            answered(loaded, run, path)
    assert answered(loaded, run, path) == answered(loaded, run, tmp_path / "undisturbed.jsonl")


def test_a_served_run_killed_twice_has_every_line_once(loaded, tmp_path):
    whole, cut, draw = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl", random.Random(6)
    folder = loaded[0].name_or_path
    with ModelServer({"m": Path(folder)}) as there:
        served = Served("m", Server(there.url, "m"), loaded[1])
        one_run.evaluate(served, run_of(60), whole, model_digest="m", batch_tokens=300)
        killed_and_finished((scorer.score_served, there.url, folder, cut), cut, 2, draw)
    assert len(kept(whole)) == len(cut.read_text().splitlines()) == 60
    assert kept(cut) == kept(whole)
