"""What a kernel shows in JupyterLab: progress below a running cell.

Long loops write progress.json, which the runner shows in the terminal. In JupyterLab nobody but its
reader runs the notebook, so the kernel shows the line itself, and takes it away when the cell ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

IN_LAB = "JPY_SESSION_NAME"  # the Jupyter server sets it for the kernel of a notebook
SECONDS = 1.0  # between two looks at progress.json


def clock(seconds: float) -> str:
    """Formats a duration in seconds, e.g. `0:05`, `1:05` or `1:00:00`."""
    return str(timedelta(seconds=int(seconds))).removeprefix("0:").removeprefix("0")


def bar(progress: Path, since: float) -> list[str]:
    """What a progress.json says, if it was written after `since`; empty without a long loop.

    Args:
        progress: the file.
        since: seconds since the epoch.

    Returns:
        E.g. `1-sft`, `step 120/250` and `0:31 left`.
    """
    try:
        if progress.stat().st_mtime < since:
            return []
        about = json.loads(progress.read_text(encoding="utf-8"))
        parts = [about["what"], f"{about['unit']} {about['n']:,}/{about['total']:,}"]
        left = about["seconds_left"]
    except (OSError, ValueError, KeyError, TypeError):  # no loop, or one that just begins or ends
        return []
    return parts if left is None else [*parts, f"{clock(left)} left"]


class Line:
    """Shows the line while a cell runs.

    Attributes:
        progress: the file that long loops write.
        seconds: between two looks at it.
    """

    def __init__(self, progress: Path, seconds: float = SECONDS):
        self.progress = progress
        self.seconds = seconds
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self, *_: Any) -> None:
        """Begins to look; IPython calls this before each cell."""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._show, args=[self.over], daemon=True)
        self.thread.start()

    def stop(self, *_: Any) -> None:
        """Takes the line away; IPython calls this after each cell."""
        self.over.set()
        if self.thread:
            self.thread.join()

    def _show(self, over: threading.Event) -> None:
        from IPython.display import display

        since = time.time()
        handle: Any = None
        while not over.wait(self.seconds):
            line = " | ".join(bar(self.progress, since))
            if line and handle is None:
                handle = display({"text/plain": line}, raw=True, display_id=True)
            elif line:
                handle.update({"text/plain": line}, raw=True)
        if handle:
            handle.update({"text/plain": ""}, raw=True)


_shown: list[Line] = []  # at most one in a kernel


def show_in_lab(folder: Path) -> None:
    """Lets a kernel show progress; only in JupyterLab.

    Args:
        folder: outputs/<study>, where long loops write progress.json.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or IN_LAB not in os.environ:
        return
    progress = folder / "progress.json"
    if _shown:
        _shown[0].progress = progress
        return
    _shown.append(Line(progress))
    shell.events.register("pre_run_cell", _shown[0].start)
    shell.events.register("post_run_cell", _shown[0].stop)
