"""Running text prepared by several processes."""

import json
import os
import signal

import pytest

from sm70lib.preparing import near, shards
from sm70lib.steps.steps import digest, write_json
from sm70lib.study.params import StudyError
from tests.synthetic import FILES, write_papers
from tests.unit.preparing.test_training_set import prepare

TUNED_ON = "medical_meadow_mediqa"
STUDY = {
    "data_sources": [TUNED_ON],
    "cpt_sources": ["pubmed_abstracts"],
    "cpt_near_duplicates": "drop",
}
LONG = " ".join(f"Sentence {number} is in every file." for number in range(20))


@pytest.fixture
def root(tmp_path):
    """A source of several files of running text, and a small one to tune on."""
    write_papers(tmp_path / "data")
    for number, path in enumerate(sorted((tmp_path / "data/pubmed_abstracts/chunk").iterdir())):
        with path.open("a") as file:
            file.write("\n" + json.dumps({"contents": f"{LONG} But for this {number}."}))
    rows = [{"instruction": f"Ask {n}", "input": "", "output": "Fever."} for n in range(20)]
    write_json(tmp_path / f"data/{TUNED_ON}/{TUNED_ON}.json", rows)
    return tmp_path / "data"


def test_any_number_of_processes_gives_the_same_bytes(root, tmp_path, tokenizer, monkeypatch):
    digests = []
    for count in ("1", "3"):
        monkeypatch.setenv(shards.PROCESSES, count)
        audit, _ = prepare(root, tmp_path / count, tokenizer, **STUDY)
        digests.append(digest(tmp_path / count / "text"))
        nearly = [defect.file for defect in audit.defects if defect.reason == near.NEARLY]
        assert len(set(nearly)) == len(nearly) == FILES - 1, "all but that of the first file"
    assert digests[0] == digests[1]
    made = sorted(path.parent.name for path in (tmp_path / "3/parts").rglob("*/*/rows.arrow"))
    assert made == [f"{n:05}" for n in range(FILES)]


def test_a_number_of_processes_that_is_none_is_one_sentence(root, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv(shards.PROCESSES, "many")
    with pytest.raises(StudyError, match="SM70_PROCESSES=many: give a number of processes"):
        prepare(root, tmp_path / "out", tokenizer, **STUDY)


def _killed(shard):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_one_sentence(root, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv(shards.PROCESSES, "2")
    monkeypatch.setattr(shards, "_make_here", _killed)
    with pytest.raises(StudyError, match="one of 2 processes .* SM70_PROCESSES=1 in front"):
        prepare(root, tmp_path / "out", tokenizer, **STUDY)
