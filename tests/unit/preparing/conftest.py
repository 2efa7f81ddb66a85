"""Sources of instruction rows, which every training set needs."""

import json

import pytest

from tests.unit.preparing.test_training_set import NAMES


@pytest.fixture
def root(tmp_path):
    """Two sources of 60 rows, of which nine each have no answer and one is a copy."""
    for number, name in enumerate(NAMES):
        (tmp_path / "data" / name).mkdir(parents=True)
        rows = [
            {
                "instruction": "Answer",
                "input": f"What is {number}.{n}? " * (n % 40 + 1),
                "output": f"It is {n}." * (n % 7),
            }
            for n in [*range(59), 58]
        ]
        (tmp_path / f"data/{name}/{name}.json").write_text(json.dumps(rows))
    return tmp_path / "data"
