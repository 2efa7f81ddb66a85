"""Many processes at once on one study, and on studies beside each other."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from sm70lib.study import params
from sm70lib.study.provenance import declared
from sm70lib.study.used import values_of
from tests.faults.campaign import finishing, real
from tests.faults.campaign.kills_study import forget
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Ended, Started
from tests.faults.campaign.trials import (
    SENTENCE,
    SILENT,
    SURVIVED,
    TRACEBACK,
    Trial,
    content,
    differing,
    last_words,
)

AT_ONCE = 32
COPIES = 8
PATIENCE = "600"  # seconds: with 32 kernels on two cores, one may take longer to start than 60
STEP = "06_figures"


def one_folder(draw: random.Random, place: Place) -> Trial:
    """06 of one toy study in 32 papermill runs at once."""
    whole = place.kept("toy", finishing.make_finished)
    study = place.folder / "study"
    shutil.copytree(whole, study)
    forget(study / "outputs/tiny", "06")
    given = finishing.toy_in(study).environment
    runs = [_papermill(place, number, study / "tiny.yml", given) for number in range(AT_ONCE)]
    ended = [run.end() for run in runs]
    other = content(whole / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    there = content(study / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    return _judged(ended, differing(there, other))


def a_folder_each(draw: random.Random, place: Place) -> Trial:
    """06 of copies of a real study, all at once, which share a home folder without caches."""
    whole = place.kept("real", real.make)
    home = place.folder / "home"
    home.mkdir()
    runs = []
    for number in range(COPIES):
        outputs = place.folder / f"outputs-{number}"
        shutil.copytree(whole / "outputs", outputs, symlinks=True)
        forget(outputs / real.NAME, "06")
        given = real.environment(outputs) | {"HOME": str(home), "MPLCONFIGDIR": str(home)}
        words = (*real.RUN, "--until", "06")
        runs.append(Started(*words, log=place.folder / f"{number}.txt", environment=given))
    ended = [run.end() for run in runs]
    wanted, other = real.content_of(whole / "outputs"), []
    for number in range(COPIES):
        other += differing(real.content_of(place.folder / f"outputs-{number}"), wanted)
    failed = [each for each in ended if each.code != 0]
    if failed:
        return Trial(TRACEBACK, note=f"{len(failed)} failed: {last_words(failed[0])}")
    return Trial(SILENT, note=f"differ: {other[:5]}") if other else Trial(SURVIVED)


def _papermill(place: Place, number: int, file: Path, environment: dict[str, str]) -> Started:
    """Plain papermill on 06, with the parameters of a study."""
    study = params.load(file)
    book = Path(environment["SM70_NOTEBOOKS"]) / f"{STEP}.ipynb"
    words = ["python", "-m", "papermill", str(book), str(place.folder / f"{number}.ipynb")]
    words += ["--no-progress-bar", "--cwd", str(place.folder), "--start-timeout", PATIENCE]
    for name, value in values_of(study, declared(book)).items():
        words += ["-y", f"{name}: {value!r}" if value is not None else f"{name}: null"]
    return Started(*words, log=place.folder / f"{number}.txt", environment=dict(environment))


def _judged(ended: list[Ended], other: list[str]) -> Trial:
    """One at least comes through; the others do too, or end with one sentence about the lock."""
    failed = [each for each in ended if each.code != 0]
    strange = [each for each in failed if "is being run already" not in each.said]
    count = f"{len(ended) - len(failed)} came through, {len(failed)} were refused"
    if strange:
        return Trial(TRACEBACK, note=f"{count}: {last_words(strange[0])}")
    if len(failed) == len(ended):
        return Trial(TRACEBACK, note=count)
    if other:
        return Trial(SILENT, note=f"{count}; differ: {other[:5]}")
    return Trial(SENTENCE if failed else SURVIVED, note=count)
