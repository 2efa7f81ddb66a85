"""What the terminal shows of a run: where a notebook is, and what an error means."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sm70lib.live import bar, clock
from sm70lib.records import children
from sm70lib.steps import steps

if TYPE_CHECKING:
    from nbformat import NotebookNode  # slow to import

MEANINGS = {  # words in the last line of an error, and what the error means
    "DeadKernelError": "the kernel died, probably for lack of memory; python -m sm70lib plan says "
    "what each step needs, and 04 needs less with a lower eval_batch_tokens",
    "MemoryError": "memory ran out; python -m sm70lib plan says what each step needs, and 04 needs "
    "less with a lower eval_batch_tokens",
    "No space left": "the disk is full",
    "StudyError": "something given is not as it must be; the sentence above says what to do",
}
LINE_SECONDS = 15  # between two lines if the output is not a terminal


def meaning(trouble: str) -> str:
    """Explains the last line of an error."""
    for words, explained in MEANINGS.items():
        if words in trouble:
            return explained
    return "an error in that cell"


def explained(name: str, cell: str, trouble: str, notebook: Path, command: str) -> str:
    """What happened to a notebook that did not end, what it means, and how to go on.

    Args:
        name: The step.
        cell: The cell in which it ended.
        trouble: The last line of the error.
        notebook: The executed notebook.
        command: The command that goes on.
    """
    if trouble == children.STOPPED:
        return (
            f"\n{name}: stopped by hand in cell {cell}; nothing that was finished is lost, go on "
            f"by: {command}"
        )
    return (
        f"\n{name} failed in cell {cell}\n  {trouble}\n  meaning:  {meaning(trouble)}\n"
        f"  notebook: {notebook}\n  go on by: {command}"
    )


def listed(plan: list[tuple[str, str, str]], folder: Path) -> str:
    """What would happen to each step, line by line, with the time that it took when it last ran.

    Args:
        plan: Name, state and reason of each step.
        folder: outputs/<study>.
    """
    lines = []
    for name, state, why in plan:
        seconds = steps.mark(folder, name).get("seconds")
        took = "" if seconds is None else f"(took {clock(seconds)})"
        reason = " ".join(filter(None, (why.removeprefix(", "), took)))
        lines.append(f"{name:<18}  {state:<8}  {reason}".rstrip())
    return "\n".join(lines)


def command_line(verb: str, files: list[str], overrides: dict[str, str]) -> str:
    """The command that does the same again, for messages."""
    python = os.path.relpath(sys.executable) if sys.executable.startswith(os.getcwd()) else "python"
    pairs = [word for pair in overrides.items() for word in ("-p", *pair)]
    return shlex.join([python, "-m", "sm70lib", verb, *map(str, files), *pairs])


class Display:
    """The line that shows notebook, cell, step and time left while a notebook runs.

    Args:
        name: The step whose notebook runs.
        folder: outputs/<study>, where the notebook writes its progress.
    """

    def __init__(self, name: str, folder: Path):
        cells = json.loads(steps.notebook(name).read_text(encoding="utf-8"))["cells"]
        self.total = sum(cell["cell_type"] == "code" for cell in cells) + 1  # papermill adds a cell
        self.name = name
        self.progress = folder / "progress.json"
        self.cell = "(kernel starts)"
        self.number = 0
        self.since = 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._show, daemon=True)

    def on_cell(self, cell: NotebookNode, **_: object) -> None:
        """Notes the current cell; nbclient calls this before each code cell."""
        injected = "injected-parameters" in cell.metadata.get("tags", ())
        self.number += 1
        self.since = time.time()
        self.cell = "injected-parameters" if injected else cell.id

    def line(self) -> str:
        """E.g. `03_qlora_finetune | cell 7/14 finetune | 1-sft | step 120/250 | 0:31 left`."""
        parts = [self.name, f"cell {self.number}/{self.total} {self.cell}"]
        return " | ".join([*parts, *bar(self.progress, self.since)])

    def _show(self) -> None:
        if sys.stdout.isatty():
            while not self.over.wait(0.5):
                print(f"\r\033[K{self.line()}", end="", flush=True)
            print("\r\033[K", end="", flush=True)
        else:
            while not self.over.wait(LINE_SECONDS):
                print(self.line(), flush=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
