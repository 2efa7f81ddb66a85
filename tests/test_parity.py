"""A slice of `make parity`: every protocol that claims to be the harness's chooses what the harness chooses."""

import pytest

from tests import parity

LIMIT = 12  # items per case; MMLU: two of each subject


@pytest.fixture(scope="module")
def rows(shared_data):
    return {(row["protocol"], row["benchmark"], row["shots"]): row for row in parity.compare(shared_data, LIMIT)}


def test_every_item_is_answered_as_by_lm_evaluation_harness(rows):
    assert len(rows) == len(parity.CASES) == 14
    assert sum(row["n"] for row in rows.values()) == 14 * LIMIT
    assert [name for name, row in rows.items() if not parity.agrees(row)] == []


def test_the_comparison_would_notice(rows):
    """One choice, score, item or log-likelihood that differs is a failure."""
    row = rows["harness", "medqa_4", 0]
    for change in ({"equal": 11}, {"same_score": 11}, {"ours": 11}, {"difference": 0.01}):
        assert not parity.agrees(row | change)
