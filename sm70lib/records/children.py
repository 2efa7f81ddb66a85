"""A process that a notebook has started: its notes, and its end."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

NOTE = "note: "  # what a notebook shows of the log of its child


@contextmanager
def ended_with_us(process: subprocess.Popen) -> Iterator[None]:
    """Ends a process and its children, if it still runs, when the context is left."""
    try:
        yield
    finally:
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            for each in (process, *children):
                with suppress(psutil.NoSuchProcess):
                    each.terminate()
            process.wait()


def show_notes(log: Path, shown: int) -> int:
    """Prints the notes in a log from the byte `shown` on; returns where to go on."""
    with open(log, "rb") as file:
        file.seek(shown)
        new, end, _ = file.read().rpartition(b"\n")
    for line in new.decode(errors="replace").splitlines():
        if line.startswith(NOTE):
            print(line.removeprefix(NOTE), flush=True)
    return shown + len(new) + len(end)
