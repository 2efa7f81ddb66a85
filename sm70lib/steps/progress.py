"""A progress bar that writes to a file, which the runner shows."""

import io
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sm70lib.study.files import write_json


class progress(tqdm):
    """A tqdm that writes progress.json, at most once a second, instead of drawing a bar.

    Example:
        with progress(300, "step", "finetune") as bar: bar.update()

    Args:
        total: The number of units to do.
        unit: The name of one unit.
        what: A short description.
        study_folder: The folder of progress.json; by default that of the step under way.
    """

    monitor_interval = 0

    def __init__(self, total: int, unit: str, what: str, study_folder: str | Path | None = None):
        folder = study_folder or os.environ.get("SM70_STUDY_FOLDER")
        self.path = Path(folder) / "progress.json" if folder else None
        super().__init__(
            total=total, unit=unit, desc=what, file=io.StringIO(), mininterval=1, miniters=1
        )

    def display(self, *args: Any, **kwargs: Any) -> None:
        """Writes what is done, its unit, how many, of how many, and the seconds left or None."""
        rate = self.format_dict["rate"] or self.n / (self.format_dict["elapsed"] or 1)
        left = max(self.total - self.n, 0) / rate if rate else None
        if self.path:
            write_json(
                self.path,
                {"what": self.desc, "unit": self.unit, "n": self.n, "total": self.total}
                | {"seconds_left": left},
            )

    def close(self) -> None:
        """Ends the bar, and removes the file."""
        super().close()
        if self.path:
            self.path.unlink(missing_ok=True)
