"""Steps: what each notebook reads and writes, and whether that still holds. A step is one notebook."""

import io
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sm70lib.study import files, kept, keys, memory, provenance
from sm70lib.study.files import digest, write_json, write_text
from sm70lib.study.keys import QUICK, STEPS, TUNING, difference, maker, mark, notebook, outputs
from sm70lib.study.params import ROOT, StudyError, affects, rehearsal

__all__ = [
    "LEFT_OUT",
    "QUICK",
    "ROOT",
    "STEPS",
    "Step",
    "begin",
    "digest",
    "maker",
    "mark",
    "notebook",
    "outputs",
    "progress",
    "status",
    "write_json",
    "write_manifest",
    "write_text",
]

LEFT_OUT = "left_out.json"  # in predictions/: the models for which 04 had too little memory


def status(name: str, params: Any) -> tuple[bool, str]:
    """Whether a step is finished for these parameters, and why it is or is not."""
    folder, now = outputs() / params.study, keys.of_step(name, params)
    done, begun = mark(folder, name), mark(folder, name, "begun")
    if absent := [path for path, sha in now["inputs"].items() if sha is None]:
        return False, f"waits for {absent[0]} of {maker(absent[0])}"
    if not done and not begun:
        return False, "not run yet"
    if not done:
        return False, difference(begun["key"], now) or "goes on where it stopped"
    if why := difference(done["key"], now):
        return False, why
    recorded = {folder / path: record for path, record in done["outputs"].items()}
    root = ROOT / params.data_root
    if root.is_dir():  # data that has been moved away cannot have changed
        recorded |= {root / path: record for path, record in done["external"].items()}
    for path, record in recorded.items():
        if not files.holds(path, record):
            return False, f"{path.name} is not as it was"
    if name == TUNING and (why := _merges(folder, params)):
        return False, why
    if name == "04_eval" and (fitting := _fit_now(folder)):
        return False, f"{', '.join(fitting)} {'fits' if len(fitting) == 1 else 'fit'} here now"
    if done["code"] != provenance.code(notebook(name)):
        return (
            True,
            f"finished, made by commit {done['commit']}, other code now; --fresh {name[:2]} to redo",
        )
    return True, "finished"


def _merges(folder: Path, params: Any) -> str:
    """What is wrong with the merged models; "" where each one asked for is there, and no other."""
    there = mark(folder, TUNING, "merged")
    for into in params.train_merge:
        stale = into not in there or difference(
            there[into]["key"], keys.of_merge(params, folder, into)
        )
        if stale or not (folder / "merged" / into).is_dir():
            return f"merged/{into} is not there yet"
    more = [into for into in there if into not in params.train_merge]
    return f"merged/{more[0]} is no longer asked for" if more else ""


def _fit_now(folder: Path) -> list[str]:
    """Models that 04 left out for want of memory, and for which there is enough here."""
    left = keys.read(folder / "predictions" / LEFT_OUT)
    return [name for name in left if left[name]["needed_gb"] <= memory.at_hand().gb]


def begin(name: str, params: Any) -> "Step":
    """Starts a step, or goes on with it; the third code cell of every notebook.

    What the step wrote under another key moves aside first, so that old and new never mix, and comes
    back when its key does. Raises StudyError where an input is missing or not as it was written, and
    where a base or an adapter would have to give way (see `kept`).
    """
    folder, now = outputs() / params.study, keys.of_step(name, params)
    command = kept.runs(params.study)
    for path, sha in now["inputs"].items():
        made_by = maker(path)
        if sha is None:
            raise StudyError(
                f"{name} needs {path} of study {params.study}: run {made_by} first ({command})"
            )
        if not (folder / path).exists() or digest(folder / path) != sha:
            raise StudyError(
                f"{folder / path} is not as {made_by} wrote it: make it again "
                f"({command} --fresh {made_by[:2]})"
            )
    kept.make_way(name, params)
    kept.begun(folder, name, now)
    os.environ["SM70_STUDY_FOLDER"] = str(
        folder
    )  # for progress(), in processes started from here too
    return Step(
        name,
        params,
        folder,
        now,
        provenance.code(notebook(name)),
        time.monotonic(),
        provenance.energy(),
    )


@dataclass(frozen=True)
class Step:
    """A step under way; `folder` is outputs/<study>."""

    name: str
    params: Any
    folder: Path
    key: dict[str, dict[str, Any]]
    code: dict[str, str]
    started: float
    energy: float | None

    def path(self, relative: str) -> Path:
        """A place below `folder`; the folder around it is made."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(
        self, *artifacts: str, external: dict[str, Path] | None = None, notes: dict | None = None
    ) -> None:
        """Records what was written and marks the step finished: the last act of a notebook.

        artifacts: files, folders or patterns below `folder`, less what other steps recorded. external:
        files read from data_root, by their name there. notes: what else the manifest should tell. A step
        that was finished, and whose results are the same, keeps what its mark says about how they were
        made. Raises StudyError where an artifact is missing.
        """
        for pattern in artifacts:
            if not any(self.folder.glob(pattern)):
                raise StudyError(
                    f"{self.name} was to write {pattern} and did not: run its cells in order"
                )
        last = mark(self.folder, self.name)
        written = {
            path.relative_to(self.folder).as_posix(): path
            for path in kept.owned(self.folder, self.name, artifacts)
        }
        about = {
            "key": self.key,
            "notes": notes or {},
            "outputs": _records(written, last.get("outputs", {})),
            "external": _records(external or {}, last.get("external", {})),
        }
        used = self._parameters("results", "looks")
        if last and not difference(last["key"], self.key) and _same(last, about):
            about = last | about | {"parameters": last["parameters"] | used}
        else:
            about |= {"parameters": used | self._parameters("nothing"), **self._circumstances()}
        write_json(self.folder / "steps" / self.name / "done.json", about)
        (self.folder / "steps" / self.name / "begun.json").unlink(missing_ok=True)
        write_manifest(self.folder)

    def _parameters(self, *kinds: str) -> dict[str, Any]:
        declared = provenance.declared(notebook(self.name))
        return {n: getattr(self.params, n) for n in declared if affects(n) in kinds}

    def _circumstances(self) -> dict[str, Any]:
        """How the step was made: by which code, in how many seconds, with what energy, where."""
        used = provenance.energy()
        return {
            "step": self.name,
            "study": self.folder.name,
            **_rehearsed(self.folder),
            "code": self.code,
            "seconds": round(time.monotonic() - self.started, 1),
            "energy_kwh": None if None in (self.energy, used) else round(used - self.energy, 4),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **provenance.circumstances(),
        }


def _records(paths: dict[str, Path], known: dict[str, dict]) -> dict[str, dict[str, Any] | None]:
    return {name: files.record(path, known.get(name)) for name, path in paths.items()}


def _same(last: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether what was recorded before is still so; something may have joined it, or left."""
    pairs = [
        (last[part][name], now[part][name])
        for part in ("outputs", "external")
        for name in last[part].keys() & now[part].keys()
    ]
    digests = [[(record or {}).get("sha256") for record in pair] for pair in pairs]
    return digests != [] and all(one == other for one, other in digests)


def _rehearsed(folder: Path) -> dict[str, str]:
    """What a mark says of a rehearsed study, and of no other."""
    said = rehearsal(folder.name)
    return {"rehearsal": said} if said else {}


def write_manifest(folder: Path) -> None:
    """Gathers the marks of a study, and its parameters as used, in one file."""
    done = {name: mark(folder, name) for name in STEPS if mark(folder, name)}
    last = max(done.values(), key=lambda step: step["finished"])
    used = {n: value for step in done.values() for n, value in step["parameters"].items()}
    write_json(
        folder / "manifest.json",
        {
            "study": folder.name,
            **_rehearsed(folder),
            "parameters": used,
            "seeds": {n: used[n] for n in used if n.endswith(("seed", "seeds"))},
            "steps": done,
            "hardware": _hardware(done.values()),
            **{n: last[n] for n in ("commit", "versions", "finished")},
        },
    )


def _hardware(done: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """That of the last step; what only steps that computed say is kept from the last of them."""
    found: dict[str, Any] = {}
    for step in sorted(done, key=lambda step: step["finished"]):
        found |= step["hardware"]
    return found


class progress(tqdm):
    """A tqdm that the runner shows, as it writes progress.json at most once a second instead of drawing.

    with progress(300, "step", "finetune") as bar: bar.update()
    """

    monitor_interval = 0

    def __init__(self, total: int, unit: str, what: str, study_folder: str | Path | None = None):
        folder = study_folder or os.environ.get("SM70_STUDY_FOLDER")
        self.path = Path(folder) / "progress.json" if folder else None
        super().__init__(
            total=total, unit=unit, desc=what, file=io.StringIO(), mininterval=1, miniters=1
        )

    def display(self, *args: Any, **kwargs: Any) -> None:
        """Writes what, unit, how many of how many, and the seconds left."""
        rate = self.format_dict["rate"] or self.n / (self.format_dict["elapsed"] or 1)
        left = max(self.total - self.n, 0) / rate if rate else None
        if self.path:
            write_json(
                self.path,
                {"unit": self.unit, "n": self.n, "total": self.total, "seconds_left": left},
            )

    def close(self) -> None:
        """Takes the file away: nothing is under way any more."""
        super().close()
        if self.path:
            self.path.unlink(missing_ok=True)
