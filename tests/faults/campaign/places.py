"""Where a trial takes place, and what is watched around it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from sm70lib.study.params import ROOT

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
        self._before: dict[str, tuple[int, int]] = {}
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
        shutil.rmtree(self._root / "trial", ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self._root / "trial/neighbour").mkdir()
        (self._root / "trial/neighbour/mine.txt").write_text("mine")
        self._before = self._around()

    def trespass(self) -> list[str]:
        """What was written, changed or removed outside the trial's folder."""
        now = self._around()
        names = self._before.keys() | now.keys()
        return sorted(name for name in names if self._before.get(name) != now.get(name))

    def _around(self) -> dict[str, tuple[int, int]]:
        """Size and time of files beside the folder and in the repository."""
        tops = [self._root / "trial", *(ROOT / name for name in WATCHED)]
        found = {path.name: (0, 0) for path in ROOT.iterdir()}
        for top in tops:
            for folder, below, files in os.walk(top):
                below[:] = [
                    name
                    for name in below
                    if name != "__pycache__" and Path(folder, name) != self.folder
                ]
                for name in files:
                    path = Path(folder, name)
                    stat = path.lstat()
                    found[str(path)] = (stat.st_size, stat.st_mtime_ns)
        found.pop(str(self.canary), None)
        return found
