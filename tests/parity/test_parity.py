"""A slice of `make parity`: every protocol that claims to be the harness's chooses what the harness
chooses.
"""

import pytest

from tests.parity import items as parity
from tests.parity.items import Case

LIMIT = 6  # items per case; MMLU: one of each subject
# with the tokenizers that the full slice leaves out
FEW = (
    Case("harness", "medqa_4", 0),
    Case("harness", "pubmedqa", 0),
    Case("harness-mc2", "truthfulqa", 0),
    Case("sm70-2023", "medqa_4", 0),
    Case("med42", "medqa_4", 0, chat=True),
)
BOS = (Case("harness", "medqa_4", 0), Case("harness", "medmcqa", 0))


@pytest.fixture(scope="module")
def rows(shared_data):
    made = [
        *parity.compare(shared_data, LIMIT, kinds=["bytes-bos"]),
        *parity.compare(shared_data, LIMIT, FEW, ["bytes", "pieces-bos"]),
    ]
    return {(row["kind"], row["case"]): row for row in made}


def test_every_item_is_answered_as_by_lm_evaluation_harness(rows):
    assert len(rows) == len(parity.CASES) + 2 * len(FEW) == 30
    assert {kind for kind, _ in rows} == set(parity.KINDS)
    assert sum(row["n"] for row in rows.values()) == 30 * LIMIT
    assert [name for name, row in rows.items() if not parity.agrees(row)] == []


def test_the_comparison_would_notice(rows):
    """One choice, score, item or log-likelihood that differs is a failure."""
    row = rows["bytes-bos", Case("harness", "medqa_4", 0)]
    for change in ({"equal": 5}, {"same_score": 5}, {"ours": 5}, {"difference": 0.01}):
        assert not parity.agrees(row | change)


def test_a_bos_too_little_is_noticed_where_the_tokenizer_adds_one(shared_data):
    """As `harness` was scored before: never with a BOS.

    A tokenizer that adds none cannot tell the two apart.
    """
    agree = {}
    for row in parity.compare(shared_data, LIMIT, BOS, bos="never"):
        agree.setdefault(row["kind"], []).append(parity.agrees(row))
    assert agree == {"bytes": [True] * 2, "bytes-bos": [False] * 2, "pieces-bos": [False] * 2}
