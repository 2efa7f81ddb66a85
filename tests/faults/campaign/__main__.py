"""The campaign: thousands of faults, one after the other, and a table of how each ended.

`make faults` runs it whole and goes on where it stopped. Finished trials are lines of
outputs/faults/trials.jsonl; outputs/reference/faults.md and faults.json are made from them. Every
trial has random numbers of its own, which follow from --seed, its kind and its number.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from sm70lib.records import children
from sm70lib.steps.steps import outputs, write_text
from sm70lib.study.provenance import circumstances
from tests.faults.campaign.places import Place
from tests.faults.campaign.trials import CODE, OUTSIDE, UNJUDGED, Kind, Trial

ALONE = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",
    "MPLBACKEND": "agg",
    "PYTHONWARNINGS": "ignore",
}


def campaign(
    done: Path, share: float = 1.0, only: Sequence[str] = (), seed: int = 18
) -> list[dict]:
    """Makes the trials that are not made yet.

    Args:
        done: The file of finished trials, one line for each.
        share: How much of the whole campaign to make, over 0.
        only: Names of kinds; none means all.
        seed: Seed of all random numbers.

    Returns:
        All finished trials.
    """
    from tests.faults.campaign.catalogue import KINDS

    made = _finished(done)
    known = {(trial["kind"], trial["number"]) for trial in made}
    done.parent.mkdir(parents=True, exist_ok=True)
    commit = circumstances()["commit"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
        stack.callback(children.end_all)
        file = stack.enter_context(done.open("a"))
        place = Place(Path(folder))
        for kind in (kind for kind in KINDS if not only or kind.name in only):
            began = time.monotonic()
            count = max(1, round(kind.count * share))
            for number in [n for n in range(count) if (kind.name, n) not in known]:
                draw = random.Random(f"{seed} {kind.name} {number}")
                trial = {"kind": kind.name, "number": number, "seed": seed, "commit": commit}
                trial |= asdict(make_one(kind, draw, place))
                made.append(trial)
                file.write(json.dumps(trial) + "\n")
                file.flush()
            mine = [trial["outcome"] for trial in made if trial["kind"] == kind.name]
            ends = ", ".join(f"{mine.count(end)} {end}" for end in sorted(set(mine)))
            print(f"{kind.name}: {ends} ({time.monotonic() - began:.0f} s)", flush=True)
    return made


def _finished(done: Path) -> list[dict]:
    """The finished trials; those that were not judged leave the file, and are made again."""
    lines = done.read_text().splitlines() if done.exists() else []
    trials = [json.loads(line) for line in lines]
    kept = [trial for trial in trials if trial["outcome"] != UNJUDGED]
    if len(kept) < len(trials):
        write_text(done, "".join(json.dumps(trial) + "\n" for trial in kept))
    return kept


def make_one(kind: Kind, draw: random.Random, place: Place) -> Trial:
    """Makes one trial, and looks at what it left around it."""
    place.begin()
    try:
        trial = kind.run(draw, place)
    except Exception:
        last = traceback.format_exc().strip().splitlines()
        trial = Trial(UNJUDGED, note=" | ".join(line.strip() for line in last[-5:])[-400:])
    if place.canary.exists():
        return Trial(CODE, trial.seconds, note=trial.note)
    if strange := place.trespass():
        return Trial(OUTSIDE, trial.seconds, note=f"{', '.join(strange)[:200]} ({trial.note})")
    return trial


def main() -> int:
    """Runs the campaign and writes the table; 1 if anything fell."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the whole campaign, e.g. 0.05")
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND", help="kinds of trials")
    parser.add_argument("--seed", type=int, default=18, help="of all random numbers")
    parser.add_argument("--fresh", action="store_true", help="forget the trials of these kinds")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the table goes")
    parser.add_argument("--only-table", action="store_true", help="make no trial")
    given = parser.parse_args()
    from tests.faults.campaign import table

    done = outputs() / "faults/trials.jsonl"
    if given.fresh:
        table.forget(done, given.only)
    if not given.only_table:
        campaign(done, given.share, given.only, given.seed)
    return table.write(done, given.to or table.FOLDER)


if __name__ == "__main__":
    os.environ.update(ALONE)
    sys.exit(main())
