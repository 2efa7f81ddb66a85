"""Full disks and too little memory."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sm70lib.training import launch
from tests import small, tuning
from tests.faults.campaign import finishing, kills_preparing, kills_scorer, kills_trainer, real
from tests.faults.campaign.kills_study import forget
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Ended, Forked, Started
from tests.faults.campaign.trials import Trial, after, content, differing
from tests.toy import Toy

KIB, MIB = 2**10, 2**20


@cache
def can_mount() -> bool:
    """Whether a small file system in memory can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["mount", "-t", "tmpfs", "none", folder]
        mounted = subprocess.run(words, capture_output=True).returncode == 0
        return mounted and subprocess.run(["umount", folder]).returncode == 0


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Callable[[], None]]:
    """A folder on a disk of so many bytes; what it yields makes room.

    Where nothing can be mounted, no file can grow beyond a part of that size instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-o", f"size={max(size, 8 * KIB)}", "none", str(folder)]
    subprocess.run(["mount", "-t", "tmpfs", *options], check=True)

    def make_room() -> None:
        subprocess.run(["mount", "-o", f"remount,size={2**30}", str(folder)], check=True)

    try:
        yield make_room
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _limited(most: int, call: Callable, *given: Any) -> Any:
    """Calls a function that can write no file beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    return call(*given)


def _on_a_full_disk(
    place: Place, start: Path, call: Callable, given: tuple, most: int, draw: random.Random
) -> tuple[Ended, Ended]:
    """Runs a function in a copy of a folder on a disk that is too small, and once more with room.

    Args:
        place: Where.
        start: The folder that is copied to `study`.
        call: The function.
        given: Its arguments.
        most: Bytes that an undisturbed run needs besides.
        draw: How many of them there are.

    Returns:
        How the function ended on the full disk, and with room.
    """
    study = place.folder / "study"
    share = draw.uniform(0.02, 0.95)
    logs = place.folder / "log.txt", place.folder / "again.txt"
    if not can_mount():
        shutil.copytree(start, study)
        biggest = int(share * max(most // 8, 4 * KIB))
        first = Forked(_limited, biggest, call, *given, log=logs[0]).end()
        return first, Forked(call, *given, log=logs[1]).end()
    with disk(study, _bytes(start) + int(share * most)) as make_room:
        shutil.copytree(start, study, dirs_exist_ok=True)
        first = Forked(call, *given, log=logs[0]).end()
        make_room()
        again = Forked(call, *given, log=logs[1]).end()
        shutil.copytree(study, place.folder / "left", symlinks=True)
    shutil.rmtree(study)
    (place.folder / "left").rename(study)
    return first, again


def _bytes(folder: Path) -> int:
    """What files take on a disk of blocks of 4 KiB."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // 4096) * 4096 for size in sizes)


def disk_of_steps(draw: random.Random, place: Place) -> Trial:
    """A full disk below a toy study, at whatever write comes then."""
    whole = place.kept("toy", finishing.make_finished)
    begin = place.kept("toy begun", lambda folder: Toy(folder) and None)
    study = place.folder / "study"
    most = _bytes(whole) - _bytes(begin)
    ended = _on_a_full_disk(place, begin, finishing.finish, (study,), most, draw)
    there = content(study / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    other = content(whole / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    return after(*ended, differing(there, other))


def disk_of_scoring(draw: random.Random, place: Place) -> Trial:
    """A full disk below predictions."""
    kept = place.kept("scored", kills_scorer.make_scored)
    begin = place.kept("nothing", lambda folder: None)
    study = place.folder / "study"
    given = (kept / "base/model", study / "a.jsonl")
    most = _bytes(kept / "whole")
    ended = _on_a_full_disk(place, begin, kills_scorer.score_here, given, most, draw)
    other = differing(content(study, ("*.jsonl",)), content(kept / "whole", ("*.jsonl",)))
    return after(*ended, other)


def disk_of_training(draw: random.Random, place: Place) -> Trial:
    """A full disk below a stage, which the notebook's side of training explains."""

    def make(folder: Path) -> None:
        changes = kills_trainer.ADAPTER
        given = (folder / "start", changes)
        assert Forked(_start, *given, log=folder / "0.txt").end().code == 0
        shutil.copytree(folder / "start", folder / "whole")
        ended = Forked(_launch, folder / "whole", log=folder / "1.txt").end()
        assert ended.code == 0, ended.said

    kept = place.kept("trainer launched", make)
    most = _bytes(kept / "whole") - _bytes(kept / "start")
    study = place.folder / "study"
    ended = _on_a_full_disk(place, kept / "start", _launch, (study,), most, draw)
    tops, leave = kills_trainer.TOPS, kills_trainer.LEAVE
    other = differing(content(study, tops, leave), content(kept / "whole", tops, leave))
    return after(*ended, other)


def _start(folder: Path, changes: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    tuning.study(folder, **changes)


def _launch(folder: Path) -> None:
    launch.run(small.parameters(**kills_trainer.ADAPTER), folder, 1, "sft")


def disk_of_preparing(draw: random.Random, place: Place) -> Trial:
    """A full disk below the training set."""
    kept = place.kept("few rows", _few_rows)
    begin = place.kept("nothing", lambda folder: None)
    study = place.folder / "study"
    most = _bytes(kept / "whole")
    given = (kept, study, False)
    ended = _on_a_full_disk(place, begin, kills_preparing.prepare_sets, given, most, draw)
    tops = kills_preparing.TOPS
    return after(*ended, differing(content(study, tops), content(kept / "whole", tops)))


def _few_rows(folder: Path) -> None:
    """A thousandth of the rows of `kills_preparing`, and what is made of them."""
    assert Forked(_write_few, folder, log=folder / "0.txt").end().code == 0
    given = (folder, folder / "whole", False)
    ended = Forked(kills_preparing.prepare_sets, *given, log=folder / "1.txt").end()
    assert ended.code == 0, ended.said


def _write_few(folder: Path) -> None:
    kills_preparing.ROWS = 4_000
    kills_preparing.write_sources(folder)


def memory_of_a_study(draw: random.Random, place: Place) -> Trial:
    """A step of a real study with little memory: the runner, its kernel and the trainer have it."""
    whole = place.kept("real", real.make)
    step = draw.choice(("00", "01", "03", "04", "06"))
    outputs = place.folder / "outputs"
    shutil.copytree(whole / "outputs", outputs, symlinks=True)
    forget(outputs / real.NAME, step)
    most = int(draw.uniform(0.4, 6.0) * 2**30)
    words, given = (*real.RUN, "--until", step), real.environment(outputs)
    limits = {resource.RLIMIT_AS: most}
    log = place.folder / "log.txt"
    first = Started(*words, log=log, environment=given, limits=limits).end()
    again = Started(*words, log=place.folder / "again.txt", environment=given).end()
    wanted = real.content_of(whole / "outputs", step)
    judged = after(first, again, differing(real.content_of(outputs, step), wanted))
    note = f"{most / 2**30:.1f} GiB in {step}: {judged.note}"
    return Trial(judged.outcome, judged.seconds, note=note[:300])


def memory_of_scoring(draw: random.Random, place: Place) -> Trial:
    """A scorer that may take a little more memory than it has already."""
    kept = place.kept("scored", kills_scorer.make_scored)
    base, path = kept / "base/model", place.folder / "a.jsonl"
    more = int(draw.uniform(0, 60) * MIB)
    first = Forked(_with_memory, more, base, path, log=place.folder / "log.txt").end()
    again = Forked(kills_scorer.score_here, base, path, log=place.folder / "again.txt").end()
    other = differing(content(place.folder, ("*.jsonl",)), content(kept / "whole", ("*.jsonl",)))
    # The runner, which is not here, explains any error of a cell; what counts is what is left.
    return after(first, again, other, killed=True)


def _with_memory(more: int, base: Path, path: Path) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, resource.RLIM_INFINITY))
    kills_scorer.score_here(base, path)
