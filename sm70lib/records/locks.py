"""One writer a study: a run, or a notebook in any kernel.

Two locks are taken. The study's own keeps other runs and notebooks away; a runner holds it as long
as it runs, and its kernels, which are its children, work under it. The step's keeps away a kernel
that outlives its killed runner. Both end with their process, however it ends.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from sm70lib.study.files import write_json
from sm70lib.study.params import StudyError

STUDY, STEP = "lock", "step.lock"
HOLDER = "lock.json"  # who holds the study's lock
ORPHAN_SECONDS = 60  # a kernel whose runner was killed ends within seconds

_running: set[Path] = set()  # studies whose lock this process holds as their runner
_steps: dict[Path, list[FileLock]] = {}  # locks that a step in this process holds, by study


@contextmanager
def run(folder: Path) -> Iterator[None]:
    """Keeps other runs and notebooks away from a study, as long as the context lasts.

    Args:
        folder: outputs/<study>, which can be written.

    Raises:
        StudyError: Another process works on the study.
    """
    with _study_lock(folder, "a run"):
        _taken(folder, STEP, ORPHAN_SECONDS).release()
        _running.add(folder)
        try:
            yield
        finally:
            _running.discard(folder)
            _forget(folder)


def take(folder: Path, name: str) -> None:
    """Locks a study for a step of this process, until `release` or the end of the process.

    Args:
        folder: outputs/<study>, which can be written.
        name: The step.

    Raises:
        StudyError: Another process works on the study.
    """
    if folder in _steps or folder in _running:
        return
    _steps[folder] = [] if _by_a_runner(folder) else [_study_lock(folder, name)]
    try:
        _steps[folder].append(_taken(folder, STEP, ORPHAN_SECONDS))
    except StudyError:
        release(folder)
        raise


def release(folder: Path) -> None:
    """Unlocks a study that a step of this process has locked; a runner's own lock stays."""
    for lock in reversed(_steps.pop(folder, [])):
        if Path(lock.lock_file).name == STUDY:
            _forget(folder)
        lock.release()


def _study_lock(folder: Path, what: str) -> FileLock:
    lock = _taken(folder, STUDY, 0)
    about = {"process": os.getpid(), "host": socket.gethostname(), "what": what}
    write_json(folder / HOLDER, about)
    return lock


def _taken(folder: Path, name: str, seconds: float) -> FileLock:
    lock = FileLock(folder / name, thread_local=False)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        who = _who(folder) if name == STUDY else "by a kernel that an ended run has left"
        raise StudyError(
            f"study {folder.name} is being run already ({who}): wait until that has ended, or end "
            "it; a notebook lets go of its study when it is finished or its kernel is shut down"
        ) from None
    return lock


def _by_a_runner(folder: Path) -> bool:
    """Whether a runner holds the study's lock, and this process is a child of it."""
    holder = _holder(folder)
    if holder.get("host") != socket.gethostname() or holder.get("process") == os.getpid():
        return False
    parents = {parent.pid for parent in psutil.Process().parents()}
    return holder.get("process") in parents


def _holder(folder: Path) -> dict:
    with suppress(OSError, ValueError):
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _who(folder: Path) -> str:
    holder = _holder(folder)
    if not holder:
        return "by another process"
    return f"{holder.get('what')}, process {holder.get('process')} on {holder.get('host')}"


def _forget(folder: Path) -> None:
    (folder / HOLDER).unlink(missing_ok=True)
