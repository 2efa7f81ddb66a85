"""A small slice of load.py: what a million prediction lines go through."""

import pytest

from sm70lib.analysis import frames
from tests.benchmarks import load

LINES = 6_000


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    load.study(folder, LINES)
    return folder


def test_both_notebooks_compute_from_all_lines(outputs):
    for part in load.PARTS:
        cost = load.compute(part, outputs)
        assert cost["lines"] == LINES and cost["gb"] < load.GB


def test_an_item_that_many_models_were_asked_is_held_once(outputs):
    """Fifty copies of every question would take more memory than all the numbers."""
    answers = frames.load(outputs, ["made"])
    held = answers["item"].map(id).nunique()
    assert held <= answers.groupby(["protocol", "seed"])["item_id"].nunique().sum() == 240
    assert answers["loglikelihoods"].map(len).min() >= 3
