"""Where a trial takes place, and what is watched around it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from sm70lib.study.params import ROOT

Seen = dict[str, tuple[int, int]]  # size and time of files, by path
WATCHED = ("sm70lib", "notebooks", "params", "tests")  # of the repository


class Place:
    """A folder for one trial after the other, and what they share.

    Attributes:
        folder: Where the trial works. It is empty at the beginning.
        canary: The file that the code of a stranger would write.
    """

    def __init__(self, root: Path):
        self._root = root
        self._made: dict[str, Path] = {}
        self._before: Seen = {}
        self._repository: Seen = {}
        self.folder = root / "trial/here"
        self.canary = root / "trial/canary"

    def kept(self, name: str, make: Callable[[Path], None]) -> Path:
        """A folder that `make` has filled, once for all trials."""
        if name not in self._made:
            folder = self._root / "kept" / name
            folder.mkdir(parents=True)
            make(folder)
            self._made[name] = folder
        return self._made[name]

    def begin(self) -> None:
        """Empties the folder and looks at all around it."""
        trial = self._root / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (trial / "neighbour").mkdir()
        (trial / "neighbour/mine.txt").write_text("mine")
        self._before = self._beside()
        self._repository = self._repository or _repository()

    def trespass(self) -> list[str]:
        """What was written, changed or removed outside the trial's folder."""
        before, self._repository = self._repository | self._before, _repository()
        now = self._repository | self._beside()
        names = before.keys() | now.keys()
        return sorted(name for name in names if before.get(name) != now.get(name))

    def _beside(self) -> Seen:
        """Files beside the trial's folder, but for the canary."""
        found = _below(self._root / "trial", self.folder)
        found.pop(str(self.canary), None)
        return found


def _repository() -> Seen:
    """Files of the repository."""
    found = {path.name: (0, 0) for path in ROOT.iterdir()}
    for name in WATCHED:
        found |= _below(ROOT / name)
    return found


def _below(top: Path, without: Path | None = None) -> Seen:
    """Size and time of all files below a folder."""
    found = {}
    for folder, below, files in os.walk(top):
        below[:] = [name for name in below if name != "__pycache__"]
        below[:] = [name for name in below if Path(folder, name) != without]
        for name in files:
            stat = os.lstat(f"{folder}/{name}")
            found[f"{folder}/{name}"] = (stat.st_size, stat.st_mtime_ns)
    return found
