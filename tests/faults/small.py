"""The small study killed while it trains and while it scores: does it end as an undisturbed one?

After `make reproduce STUDY=small DATA=folder`:

    python -m tests.faults.small --data folder

Arm B runs again in a folder of its own. In 03 and in 04 everything is killed by kill -9, and the
same command goes on. What it leaves is compared with outputs/small-b, which must have been made on
this machine: another one computes other last bits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from sm70lib.steps.steps import outputs
from sm70lib.study.params import ROOT
from tests.faults.campaign.kills_study import everything
from tests.faults.campaign.processes import Started
from tests.faults.campaign.real import LEAVE, MADE
from tests.faults.campaign.trials import content, differing

STUDY = "small-b"
KILLS = (  # in which step, which files grow in it, and with how many lines they are killed
    ("03", "stages/*/metrics.jsonl", 40),
    ("04", "predictions/*/*.jsonl", 250),
)
PATIENCE = 3600  # seconds


def lines(folder: Path, pattern: str) -> int:
    """How many lines the files of a pattern have together."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(pattern))


def killed(command: tuple[str, ...], place: Path, kill: tuple[str, str, int]) -> str:
    """Starts the study, kills all of its processes, and says what was there by then.

    Args:
        command: runs the study.
        place: the folder of studies.
        kill: a row of KILLS.

    Raises:
        SystemExit: the study ended before it could be killed.
    """
    step, pattern, count = kill
    started = Started(*command, log=place / "log.txt", environment={"SM70_OUTPUTS": str(place)})
    while started.alive() and lines(place / STUDY, pattern) < count:
        time.sleep(0.05)
    if not started.alive():
        sys.exit(f"the study ended before its kill in {step}:\n{started.end().said[-2000:]}")
    everything(started)
    started.end()
    return f"killed in {step}, with {lines(place / STUDY, pattern)} lines in {pattern}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real files")
    given = parser.parse_args()
    undisturbed = outputs() / STUDY
    if not (undisturbed / "manifest.json").exists():
        sys.exit(f"{undisturbed} is not finished: run make reproduce STUDY=small first")
    file, root = str(ROOT / f"params/{STUDY}.yml"), str(given.data.resolve())
    command = ("python", "-m", "sm70lib", "run", file, "-p", "data_root", root)
    with tempfile.TemporaryDirectory(prefix="small-", dir=outputs()) as folder:
        place = Path(folder)
        (place / "models").symlink_to(outputs() / "models")
        for kill in KILLS:
            print(killed(command, place, kill), flush=True)
        log = place / "log.txt"
        ended = Started(*command, log=log, environment={"SM70_OUTPUTS": folder}).end(PATIENCE)
        if ended.code != 0:
            sys.exit(f"the same command did not go on:\n{ended.said[-2000:]}")
        tops = [top for made in MADE.values() for top in made]
        after = content(place / STUDY, tops, LEAVE)
        before = content(undisturbed, tops, LEAVE)
    other = differing(after, before)
    print(f"{len(before)} files compared, {len(other)} differ: {', '.join(other) or 'none'}")
    sys.exit(bool(other))


if __name__ == "__main__":
    main()
