"""Files of a finished study that a disk, a program or a stranger has damaged."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

from tests.faults.campaign import finishing, real
from tests.faults.campaign.kills_study import forget
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Ended, Forked, Started
from tests.faults.campaign.trials import (
    LOST,
    SENTENCE,
    SILENT,
    SURVIVED,
    TRACEBACK,
    Trial,
    content,
    differing,
    is_sentence,
    last_words,
)

SHAPES = [  # what a JSON file may hold instead
    *(b"", b"[]", b"null", b"7", b'"x"', b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b"\x00" * 64),
    *(b'{"key": []}', b'{"key": {"parameters": {}, "inputs": {}, "code": {}}, "outputs": null}'),
]
TRIES = 4  # how often the same command is given, where a reader has named what is damaged


def toy(draw: random.Random, place: Place) -> Trial:
    """Damages a file of a toy study; the library's own reading, marking and mending take part."""
    whole = place.kept("toy", finishing.make_finished)
    study = place.folder / "study"
    shutil.copytree(whole, study)
    done = damage(study / "outputs/tiny", draw)
    _have_it_read(study / "outputs/tiny", done)
    ended = []
    for number in range(TRIES):
        log = place.folder / f"{number}.txt"
        ended.append(Forked(finishing.finish, study, log=log).end(300))
        if ended[-1].code == 0:
            break
    there = content(study / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    other = content(whole / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    return _judged(ended, differing(there, other), done)


def finished_study(draw: random.Random, place: Place) -> Trial:
    """Damages a file of a real study; then the same command, and the report."""
    whole = place.kept("real", real.make)
    outputs = place.folder / "outputs"
    shutil.copytree(whole / "outputs", outputs, symlinks=True)
    done = damage(outputs / real.NAME, draw)
    _have_it_read(outputs / real.NAME, done)
    ended = []
    for number in range(TRIES):
        for what, words in (("run", real.RUN), ("report", real.REPORT)):
            log = place.folder / f"{number}-{what}.txt"
            ended.append(Started(*words, log=log, environment=real.environment(outputs)).end())
        if ended[-1].code == 0 and ended[-2].code == 0:
            break
    there = real.content_of(outputs)
    return _judged(ended, differing(there, real.content_of(whole / "outputs")), done)


READERS = {"base": "01", "data": "03", "adapter": "04", "predictions": "05"}  # memory.csv: 06


def _have_it_read(folder: Path, done: str) -> None:
    """Forgets the steps that read what was damaged, if neither size nor time shows the damage.

    Nobody looks into such a file before the next step that reads it.
    """
    if done.rpartition(", ")[2] in ("time kept",):
        top = done.partition("/")[0].partition(",")[0]
        forget(folder, READERS.get(top, "06"))


def _judged(ended: list[Ended], other: list[str], done: str) -> Trial:
    """Judges commands that were given until they came through, and what is there then."""
    seconds = sum(each.seconds for each in ended)
    strange = [each for each in ended if each.code != 0 and not is_sentence(each)]
    if strange:
        return Trial(TRACEBACK, seconds, note=f"{done}: {last_words(strange[0])}")
    if ended[-1].code != 0:
        return Trial(LOST, seconds, note=f"{done}: no command mends it: {last_words(ended[-1])}")
    if other:
        return Trial(SILENT, seconds, note=f"{done}: {', '.join(other)[:200]} differ")
    named = any(each.code != 0 for each in ended)
    return Trial(SENTENCE if named else SURVIVED, seconds, note=done)


def damage(folder: Path, draw: random.Random) -> str:
    """Damages one file below a folder; returns what was done, in words."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = draw.choice(files)
    how = draw.choice(sorted(WAYS))
    shown = f"{path.relative_to(folder).as_posix()}, {how}"
    stat = path.stat()
    WAYS[how](path, draw)
    if how in KEEP_TIME and path.is_file():
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return shown


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def _append(path: Path, draw: random.Random) -> None:
    with path.open("ab") as file:
        file.write(draw.choice(SHAPES) + draw.randbytes(draw.randint(1, 50)))


def _other_shape(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.choice(SHAPES))


def _digit(path: Path, draw: random.Random) -> None:
    """Changes a digit, so that what is read is well-formed and wrong."""
    content = bytearray(path.read_bytes())
    digits = [place for place, byte in enumerate(content) if 48 <= byte < 58]
    if digits:
        content[draw.choice(digits)] = 48 + draw.randrange(10)
    path.write_bytes(content)


def _gone(path: Path, draw: random.Random) -> None:
    path.unlink()


def _folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _beside(path: Path, draw: random.Random) -> None:
    """Adds a file that no step wrote."""
    path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes())


WAYS = {
    "a bit flipped": _flip,
    "a bit flipped, time kept": _flip,
    "cut short": _cut,
    "bytes added": _append,
    "of another shape": _other_shape,
    "a digit changed": _digit,
    "a digit changed, time kept": _digit,
    "deleted": _gone,
    "a folder in its place": _folder,
    "a dangling link in its place": _dangling,
    "a copy beside it": _beside,
}
KEEP_TIME = ("a bit flipped, time kept", "a digit changed, time kept")


def stranger(draw: random.Random, place: Place) -> Trial:
    """Gives a mark a path that leads out of the study, to a file of somebody else."""
    whole = place.kept("toy", finishing.make_finished)
    study = place.folder / "study"
    shutil.copytree(whole, study)
    marks = sorted((study / "outputs/tiny/steps").glob("*/done.json"))
    mark = draw.choice(marks)
    about = json.loads(mark.read_text())
    neighbour = place.folder.parent / "neighbour/mine.txt"
    path = draw.choice((os.path.relpath(neighbour, study / "outputs/tiny"), str(neighbour)))
    record = next(iter(about["outputs"].values())) | {"mtime_ns": 1}
    about["outputs"][path] = record
    mark.write_text(json.dumps(about))
    ended = [
        Forked(finishing.finish, study, log=place.folder / f"{number}.txt").end(300)
        for number in range(2)
    ]
    there = content(study / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    other = content(whole / "outputs/tiny", finishing.TOPS, finishing.LEAVE)
    return _judged(ended[1:], differing(there, other), f"a stranger's path in {mark.parent.name}")
