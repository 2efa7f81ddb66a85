"""Start and finish steps, and record what they wrote. A step is one notebook."""

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sm70lib import live
from sm70lib.records import damage, locks
from sm70lib.steps import keys, replaced
from sm70lib.steps.compared import difference
from sm70lib.steps.keys import QUICK, STEPS, Key, maker, mark, notebook, outputs
from sm70lib.steps.manifest import rehearsed, write_manifest
from sm70lib.steps.progress import progress
from sm70lib.steps.status import LEFT_OUT, status
from sm70lib.study import files, provenance
from sm70lib.study.files import digest, write_csv, write_json, write_text
from sm70lib.study.params import ROOT, StudyError, affects
from sm70lib.study.used import values_of

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
    "require_as_written",
    "require_writable",
    "status",
    "write_csv",
    "write_json",
    "write_manifest",
    "write_text",
]


def begin(name: str, params: Any) -> "Step":
    """Starts or resumes a step; the third code cell of every notebook calls this.

    What the step wrote under another key is moved aside first, so that old and new never mix. It
    comes back when its key does. What it wrote under this key and what is not so any more is put
    aside too, and made again.

    Args:
        name: The step, e.g. `04_eval`.
        params: The parameters, as `params.check` returns them.

    Returns:
        The step under way.

    Raises:
        StudyError: Another process works on the study; an input is missing or has changed; or a
            base or an adapter would have to be moved (see `replaced`).
    """
    folder = outputs() / params.study
    live.show_in_lab(folder)
    require_writable(folder)
    locks.take(folder, name)
    try:
        now = keys.of_step(name, params)
        _require_inputs(name, folder, now)
        replaced.make_way(name, params)
        replaced.begun(folder, name, now)
    except BaseException:
        locks.release(folder)
        raise
    os.environ["SM70_STUDY_FOLDER"] = str(folder)  # for progress(), also in child processes
    return Step(
        name=name,
        params=params,
        folder=folder,
        key=now,
        code=provenance.code(notebook(name)),
        started=time.monotonic(),
        energy=provenance.energy(),
    )


def require_writable(folder: Path) -> None:
    """Makes the folder of a study.

    Raises:
        StudyError: Nothing can be written there, for example in a checkout that is read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(
            f"nothing can be written to {folder} ({error.strerror}): set the environment variable "
            "SM70_OUTPUTS to a folder where the outputs of all studies may be"
        ) from None


def _require_inputs(name: str, folder: Path, key: Key) -> None:
    """Raises StudyError if an input is missing, or is not as its step wrote it."""
    for path, sha in key["inputs"].items():
        study = Path(os.path.relpath(folder / path, outputs())).parts[0]  # it may be a link
        if sha is None:
            raise StudyError(
                f"{name} needs {path} of study {folder.name}: run {maker(path)} first "
                f"({replaced.runs(study)})"
            )
        require_as_written(study, path.removeprefix(f"../{study}/"))


def require_as_written(study: str, *paths: str, by: str = "") -> None:
    """Reads outputs of a study; one that is not as its step wrote it makes that step unfinished.

    Args:
        study: The study.
        *paths: Files and folders below its folder. What no step has written is passed over.
        by: The step that wrote them; by default the one to which their names belong.

    Raises:
        StudyError: One of them has changed.
    """
    folder = outputs() / study
    for path in paths:
        made_by = by or maker(path)
        done = mark(folder, made_by)
        recorded = done.get("outputs", {}).get(path)
        changed = files.changed(folder / path, recorded, thorough=True) if recorded else []
        if changed:
            with suppress(OSError):  # the study may belong to somebody else
                damage.distrust(folder, made_by, done, path)
            raise StudyError(
                f"{changed[0]} is not as {made_by} wrote it: run {made_by} of study {study} again, "
                f"which puts it aside and makes it anew ({replaced.runs(study)})"
            )


@dataclass(frozen=True)
class Step:
    """A step under way.

    Attributes:
        name: The step, e.g. `04_eval`.
        params: The notebook's parameters.
        folder: outputs/<study>.
        key: What decides the result.
        code: Digests of the code, by file.
        started: When the step began (s, monotonic clock).
        energy: What the GPUs had used by then (kWh); None without a meter.
    """

    name: str
    params: Any
    folder: Path
    key: Key
    code: dict[str, str]
    started: float
    energy: float | None

    def path(self, relative: str) -> Path:
        """A path below `folder`; makes the folder around it."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(
        self, *artifacts: str, external: dict[str, Path] | None = None, notes: dict | None = None
    ) -> None:
        """Records what the step wrote, and marks it as finished; a notebook's last cell calls this.

        If the step was finished before with the same result, its mark keeps the earlier account of
        how the result was made.

        Args:
            *artifacts: Files, folders or patterns below `folder`. Files that other steps recorded
                are left out.
            external: Files read from data_root, by their name there.
            notes: Anything else for the manifest.

        Raises:
            StudyError: An artifact is missing.
        """
        for pattern in artifacts:
            if not any(self.folder.glob(pattern)):
                raise StudyError(
                    f"{self.name} was to write {pattern} and did not: run its cells in order"
                )
        last = mark(self.folder, self.name)
        paths = replaced.owned(self.folder, self.name, artifacts)
        written = {path.relative_to(self.folder).as_posix(): path for path in paths}
        about = {
            "key": self.key,
            "notes": notes or {},
            "outputs": _records(written, last.get("outputs", {})),
            "external": _records(external or {}, last.get("external", {})),
        }
        used = self._parameters("results", "looks")
        if last and not difference(last["key"], self.key) and _same(last, about):
            about = last | about
            about["parameters"] = last["parameters"] | used
        else:
            about |= self._circumstances()
            about["parameters"] = used | self._parameters("nothing")
        write_json(self.folder / "steps" / self.name / "done.json", about)
        (self.folder / "steps" / self.name / "begun.json").unlink(missing_ok=True)
        write_manifest(self.folder)
        locks.release(self.folder)

    def _parameters(self, *kinds: str) -> dict[str, Any]:
        declared = provenance.declared(notebook(self.name))
        return values_of(self.params, [name for name in declared if affects(name) in kinds])

    def _circumstances(self) -> dict[str, Any]:
        """How the step was made: its code, duration, energy and machine."""
        energy = provenance.energy()
        used = None if energy is None or self.energy is None else round(energy - self.energy, 4)
        return {
            "step": self.name,
            "study": self.folder.name,
            **rehearsed(self.folder),
            "code": self.code,
            "seconds": round(time.monotonic() - self.started, 1),
            "energy_kwh": used,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **provenance.circumstances(),
        }


def _records(paths: dict[str, Path], known: dict[str, dict]) -> dict[str, dict[str, Any] | None]:
    return {name: files.record(path, known.get(name)) for name, path in paths.items()}


def _same(last: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether all files in both records have the same digests; a file may be in only one."""
    compared = 0
    for part in ("outputs", "external"):
        for name in last[part].keys() & now[part].keys():
            before, after = last[part][name] or {}, now[part][name] or {}
            if before.get("sha256") != after.get("sha256"):
                return False
            compared += 1
    return compared > 0
