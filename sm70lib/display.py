"""One line of a terminal that shows where a notebook is."""

import json
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from sm70lib.study import steps

LINE_SECONDS = 15  # between lines of progress where there is no terminal to overwrite them on


def clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds))).removeprefix("0:").removeprefix("0")


class Display:
    """The line that shows notebook, cell, step and time left while a notebook runs."""

    def __init__(self, name: str, folder: Path):
        cells = json.loads(steps.notebook(name).read_text(encoding="utf-8"))["cells"]
        self.total = sum(cell["cell_type"] == "code" for cell in cells) + 1  # and the injected one
        self.name, self.progress = name, folder / "progress.json"
        self.cell, self.number, self.since = "(kernel starts)", 0, 0.0
        self.over, self.thread = threading.Event(), threading.Thread(target=self._show, daemon=True)

    def on_cell(self, cell: dict, **_: object) -> None:
        """Called by nbclient before a code cell."""
        injected = "injected-parameters" in cell.metadata.get("tags", ())
        self.number, self.since = self.number + 1, time.time()
        self.cell = "injected-parameters" if injected else cell.id

    def line(self) -> str:
        """E.g. `03_qlora_finetune | cell 7/14 finetune | step 120/250 | 0:31 left`."""
        parts = [self.name, f"cell {self.number}/{self.total} {self.cell}"]
        try:
            if self.progress.stat().st_mtime >= self.since:
                bar = json.loads(self.progress.read_text(encoding="utf-8"))
                parts.append(f"{bar['unit']} {bar['n']}/{bar['total']}")
                parts += (
                    [f"{clock(bar['seconds_left'])} left"]
                    if bar["seconds_left"] is not None
                    else []
                )
        except (OSError, ValueError):
            pass  # no long loop is under way
        return " | ".join(parts)

    def _show(self) -> None:
        terminal = sys.stdout.isatty()
        while not self.over.wait(0.5 if terminal else LINE_SECONDS):
            print(f"\r\033[K{self.line()}" if terminal else f"{self.line()}\n", end="", flush=True)
        print("\r\033[K" if terminal else "", end="", flush=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
