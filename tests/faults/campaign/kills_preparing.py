"""Preparing 100,000 rows, killed at random moments: running text in shards, and rows to tune on."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from sm70lib.models import loading
from sm70lib.preparing import shards
from sm70lib.steps.steps import write_json
from tests import small
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Forked, Process, killed_at_random
from tests.faults.campaign.trials import LOST, Trial, after, content, differing
from tests.unit.preparing.test_training_set import prepare

ROWS, FILES = 100_000, 10
TUNED_ON, READ = "medical_meadow_wikidoc", "pubmed_abstracts"
PROCESSES = 2
TOPS = ("data/train", "data/holdout", "data/text")
STUDY = {"data_sources": [TUNED_ON], "data_max_length": 64}


def write_sources(folder: Path) -> None:
    """A base, a source of running text in ten files, and a source of rows in one."""
    small.base(folder)
    texts = folder / f"data/{READ}/chunk"
    texts.mkdir(parents=True)
    for file in range(FILES):
        numbers = range(file * ROWS // FILES, (file + 1) * ROWS // FILES)
        lines = [json.dumps({"contents": f"Paper {n} is on fever {n % 97}."}) for n in numbers]
        (texts / f"{file}.jsonl").write_text("\n".join(lines))
    rows = [
        {"instruction": "Answer", "input": f"What is {n}?", "output": f"It is {n}."}
        for n in range(ROWS)
    ]
    for name, some in ((TUNED_ON, rows[:50]), ("many", rows)):
        path = folder / name / TUNED_ON / f"{TUNED_ON}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(some))
    shutil.move(folder / TUNED_ON / TUNED_ON, folder / "data")


def prepare_sets(kept: Path, to: Path, many: bool) -> None:
    tokenizer = loading.load_tokenizer(kept / "base/model")
    if many:
        prepare(kept / "many", to / "data", tokenizer, **STUDY)
        return
    prepare(kept / "data", to / "data", tokenizer, **STUDY, cpt_sources=[READ])


def text(draw: random.Random, place: Place) -> Trial:
    """Kills the preparing of running text by two processes."""
    return _killed(False, draw, place)


def rows(draw: random.Random, place: Place) -> Trial:
    """Kills the preparing of a source of rows."""
    return _killed(True, draw, place)


def _killed(many: bool, draw: random.Random, place: Place) -> Trial:
    kept = place.kept("100,000 rows", _make)
    name, environment = ("rows", "text")[not many], {shards.PROCESSES: str(PROCESSES)}

    def undisturbed(folder: Path) -> None:
        given = (kept, folder, many)
        ended = Forked(prepare_sets, *given, log=folder / "1.txt", environment=environment).end()
        assert ended.code == 0, ended.said
        write_json(folder / "lasted.json", ended.lasted)

    whole = place.kept(f"100,000 {name} prepared", undisturbed)
    lasts, to = json.loads((whole / "lasted.json").read_text()), place.folder / "study"

    def start() -> Process:
        shutil.rmtree(to, ignore_errors=True)
        given = (kept, to, many)
        return Forked(prepare_sets, *given, log=place.folder / "log.txt", environment=environment)

    first = killed_at_random(start, lasts, draw)
    before = _shards(to)
    log = place.folder / "again.txt"
    again = Forked(prepare_sets, kept, to, many, log=log, environment=environment).end()
    other = differing(content(to, TOPS), content(whole, TOPS))
    now = _shards(to)
    redone = [shard for shard in before if now.get(shard) != before[shard]]
    if redone:
        return Trial(LOST, again.seconds, len(redone), f"finished shards made again: {redone}")
    judged = after(first, again, other, killed=True)
    under_way = 1 if many else min(PROCESSES, FILES - len(before))
    return Trial(judged.outcome, again.seconds, under_way, judged.note)


def _shards(to: Path) -> dict[str, int]:
    """The finished shards, with the number that the disk has for their rows."""
    found = (to / "data/parts").rglob("found.json")
    return {
        path.parent.relative_to(to).as_posix(): path.with_name("rows.arrow").stat().st_ino
        for path in found
    }


def _make(folder: Path) -> None:
    ended = Forked(write_sources, folder, log=folder / "0.txt").end()
    assert ended.code == 0, ended.said
