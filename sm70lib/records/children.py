"""Processes that a notebook or a run has started: their notes, and their end."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

STOPPED = "stopped by hand"  # why a run ended: by Ctrl-C or SIGTERM
PATIENCE = 10  # seconds
NOTEBOOK = "SM70_NOTEBOOK"  # environment variable of a child: host and process of its notebook
ORPHANED = 3  # exit code of a child whose notebook has gone
NOTE = "note: "  # what a notebook shows of the log of its child


def environment() -> dict[str, str]:
    """The environment of a child, which tells it that this process waits (see `notebook_gone`)."""
    return os.environ | {NOTEBOOK: f"{socket.gethostname()}:{os.getpid()}"}


def notebook_gone() -> bool:
    """Whether the notebook that started this process was on this host and has ended.

    A kill leaves a notebook no time to end what it has started.
    """
    host, _, process = os.environ.get(NOTEBOOK, "").partition(":")
    return host == socket.gethostname() and not psutil.pid_exists(int(process))


@contextmanager
def ended_with_us(process: subprocess.Popen) -> Iterator[None]:
    """Ends a process and its children, if it still runs, when the context is left."""
    try:
        yield
    finally:
        if process.poll() is None:
            _end([psutil.Process(process.pid)])


def runs(process: subprocess.Popen, seconds: float) -> bool:
    """Waits until a process ends, so many seconds at most; True if it still runs then."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    return process.returncode is None


def end_all() -> None:
    """Ends all that this process has started, as when it is stopped itself."""
    _end(psutil.Process().children())


def _end(processes: list[psutil.Process]) -> None:
    """Ends processes and all that they started: politely, then after PATIENCE seconds by force."""
    below = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            below += process.children(recursive=True)
    for signal in (psutil.Process.terminate, psutil.Process.kill):
        for process in (*processes, *below):
            with suppress(psutil.NoSuchProcess):
                signal(process)
        _, still = psutil.wait_procs([*processes, *below], timeout=PATIENCE)
        if not still:
            return


def show_notes(log: Path, shown: int) -> int:
    """Prints the notes in a log from the byte `shown` on; returns where to go on."""
    with open(log, "rb") as file:
        file.seek(shown)
        new, end, _ = file.read().rpartition(b"\n")
    for line in new.decode(errors="replace").splitlines():
        if line.startswith(NOTE):
            print(line.removeprefix(NOTE), flush=True)
    return shown + len(new) + len(end)
