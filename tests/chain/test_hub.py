"""The hub: a server of our own that speaks its protocol, and none at all."""

import json
import os
import subprocess
import sys
import time

import pytest

from sm70lib.standins.hub import Hub, commit
from sm70lib.steps.steps import write_text
from sm70lib.study.params import ROOT

ROWS = [{"instruction": "Answer", "input": "What?", "output": "That."}]
FILES = {"medical_meadow_wikidoc.json": json.dumps(ROWS), "README.md": "not wanted"}
READ = """
import sys
from types import SimpleNamespace
from sm70lib import sources
from sm70lib.study.params import StudyError
try:
    root = sources.root(SimpleNamespace(data_root="hub", study="any"))
    print([row.output for row in sources.read(sys.argv[1], root)])
except StudyError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def hub(tmp_path):
    for name, content in FILES.items():
        write_text(tmp_path / "served/datasets/medalpaca/medical_meadow_wikidoc" / name, content)
    with Hub(tmp_path / "served") as running:
        yield running


def read(
    tmp_path, endpoint: str, name: str = "medical_meadow_wikidoc"
) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "SM70_OUTPUTS": str(tmp_path / "outputs"),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(tmp_path / "home"),
    }
    return subprocess.run(
        [sys.executable, "-c", READ, name],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )


def test_a_set_is_downloaded_once_at_the_commit_that_is_locked(hub, tmp_path):
    assert "['That.']" in read(tmp_path, hub.url).stdout
    locked = commit("medalpaca/medical_meadow_wikidoc")
    assert json.loads((tmp_path / "outputs/hub/hub.lock").read_text()) == {
        "medalpaca/medical_meadow_wikidoc": locked
    }
    fetched = [line for line in hub.asked if "/resolve/" in line]
    assert fetched and all(locked in line and "README" not in line for line in fetched)
    hub.asked.clear()
    assert (
        "['That.']" in read(tmp_path, "http://127.0.0.1:9").stdout
    )  # no network is needed any more
    for file in (tmp_path / "outputs/hub/medical_meadow_wikidoc").rglob("*"):
        file.is_file() and file.unlink()
    read(tmp_path, hub.url)
    assert hub.asked and not [
        line for line in hub.asked if line.endswith("wikidoc")
    ]  # which commit is not asked again


def test_without_a_network_one_sentence_says_so_in_seconds(tmp_path):
    started = time.monotonic()
    said = read(tmp_path, "http://127.0.0.1:9")
    waited = time.monotonic() - started
    assert said.returncode == 1
    last = said.stderr.strip().splitlines()[-1]
    assert "medalpaca/medical_meadow_wikidoc cannot be had" in last and last.endswith(
        "check the network, or give a folder."
    )
    assert not (tmp_path / "outputs/hub/hub.lock").exists()
    started = time.monotonic()
    missing = read(tmp_path, "http://127.0.0.1:9", "med_safety_bench").stderr
    assert waited < 3 * (time.monotonic() - started) + 10, "hardly longer than without asking"
    assert (
        "no file datasets/" in missing and "params/data.md" in missing
    )  # not on the hub: to be put there by hand


DEV = """
from types import SimpleNamespace
from sm70lib import benchmarks, sources
root = sources.root(SimpleNamespace(data_root="hub", study="any"))
for name in ("medqa_4_dev", "pubmedqa_dev"):
    items, pool = benchmarks.read(name, root), benchmarks.pool(name, root)
    print(name, [item.question for item in items], [item.question for item in pool])
"""


def test_dev_items_and_their_shots_come_from_two_repositories_that_share_a_folder(tmp_path):
    ending = {f"ending{n}": text for n, text in enumerate("abcd")}
    dev = {"id": "dev-0", "sent1": "Dev?", "sent2": "", "label": 1, **ending}
    train = {
        "question": "Train?",
        "answer": "b",
        "options": dict(zip("ABCD", "abcd")),
        "answer_idx": "B",
    }
    abstracts = {
        key: {
            "QUESTION": f"{key}?",
            "CONTEXTS": ["So."],
            "LONG_ANSWER": "c",
            "final_decision": "no",
        }
        for key in ("1", "2", "3")
    }
    served = tmp_path / "served/datasets"
    for path, rows in {
        "GBaker/MedQA-USMLE-4-options-hf/dev.json": dev,
        "GBaker/MedQA-USMLE-4-options/phrases_no_exclude_train.jsonl": train,
        "qiaojin/PubMedQA/data/ori_pqal.json": abstracts,
    }.items():
        write_text(served / path, json.dumps(rows))
    write_text(tmp_path / "outputs/hub/pubmedqa/test_ground_truth.json", json.dumps({"2": "no"}))
    with Hub(tmp_path / "served") as running:
        environment = os.environ | {
            "HF_ENDPOINT": running.url,
            "SM70_OUTPUTS": str(tmp_path / "outputs"),
            "HF_HUB_OFFLINE": "0",
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(tmp_path / "home"),
        }
        said = subprocess.run(
            [sys.executable, "-c", DEV],
            capture_output=True,
            text=True,
            env=environment,
            timeout=600,
        )
    assert said.stdout.splitlines() == [
        "medqa_4_dev ['Dev?'] ['Train?']",
        "pubmedqa_dev ['1?', '3?'] []",
    ], said.stderr
