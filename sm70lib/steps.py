"""Steps: what each notebook reads and writes, and whether that still holds. A step is one notebook."""

import io
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sm70lib import memory, provenance
from sm70lib.params import ROOT, StudyError, affects, rehearsal
from sm70lib.provenance import digest, write_json, write_text

__all__ = ["LEFT_OUT", "ROOT", "STEPS", "begin", "digest", "outputs", "progress", "status", "write_json", "write_text"]

STEPS = {  # what a step reads below outputs/<study>/
    "00_base": (),
    "01_data": ("base/tokenizer", "base/world"),
    "02_load_4bit": ("base/base.json", "base/model"),
    "03_qlora_finetune": ("base/base.json", "base/model", "data/train", "data/holdout", "data/text",
                          "data/preferences"),
    "04_eval": ("base/base.json", "base/model", "adapter", "stages/*/adapter", "merged/*", "data/benchmarks"),
    "05_error_analysis": ("base/base.json", "predictions", "data/benchmarks", "data/contaminated_items.csv"),
    "06_figures": ("base/base.json", "predictions", "data/benchmarks", "data/*.csv", "memory.csv",
                   "base/metrics.jsonl", "stages/*/metrics.jsonl"),
}
WRITES = {  # and what it writes there
    "00_base": ("base",),
    "01_data": ("data",),
    "02_load_4bit": ("memory.csv",),
    "03_qlora_finetune": ("adapter", "stages", "merged"),
    "04_eval": ("predictions",),
    "05_error_analysis": ("tables/errors*", "figures/errors*"),
    "06_figures": ("tables/*", "figures/*", "scorecard*"),
}
QUICK = ("01_data", "05_error_analysis", "06_figures")  # made again when their code changes, others never
LEFT_OUT = "left_out.json"  # in predictions/: the models for which 04 had too little memory
OPTIONAL = ("base/world", "base/model", "base/metrics.jsonl",  # made where the base is trained here
            "data/text", "data/preferences", "stages/*/adapter", "merged/*")  # and where a stage has them


def outputs() -> Path:
    """The folder of all studies: $SM70_OUTPUTS, or outputs/ in the repository."""
    return Path(os.environ.get("SM70_OUTPUTS", ROOT / "outputs")).resolve()


def notebook(name: str) -> Path:
    """The notebook of a step, in $SM70_NOTEBOOKS or in notebooks/ in the repository."""
    return Path(os.environ.get("SM70_NOTEBOOKS", ROOT / "notebooks")).resolve() / f"{name}.ipynb"


def mark(folder: Path, name: str, kind: str = "done") -> dict[str, Any]:
    """What `done.json` or `begun.json` of a step says; empty if there is none, or a broken one."""
    try:
        return json.loads((folder / "steps" / name / f"{kind}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def maker(path: str) -> str:
    """The step that writes a file or folder of a study."""
    return next(name for name, owned in WRITES.items() if {*owned} & {*path.removeprefix("../").split("/")})


def _inputs(name: str, params: Any) -> dict[str, str | None]:
    """Digests of a step's inputs as their makers recorded them; None where one has not been made."""
    wanted = [("", pattern) for pattern in STEPS[name]]
    if name == "06_figures":
        wanted += [(f"../{other}/", "predictions") for other in getattr(params, "figures_studies", ())]
    found = {}
    for study, pattern in wanted:
        made = mark(outputs() / params.study / study, maker(pattern)).get("outputs", {})
        hits = {f"{study}{path}": made[path]["sha256"] for path in made if fnmatch(path, pattern)}
        found |= hits or ({} if pattern in OPTIONAL else {f"{study}{pattern}": None})
    return found


def key(name: str, params: Any) -> dict[str, dict[str, Any]]:
    """What decides a step's result: parameters, digests of its inputs and, for quick steps, of its code."""
    values = {n: getattr(params, n) for n in provenance.declared(notebook(name)) if affects(n) != "nothing"}
    if "data_root" in provenance.declared(notebook(name)):  # its contents count, and not where they lie
        values["data_root"] = params.data_root if params.data_root in ("world", "hub") else "a folder"
    code = provenance.code(notebook(name)) if name in QUICK else {}
    return {"parameters": values, "inputs": _inputs(name, params), "code": code}


def _difference(old: dict, new: dict) -> str:
    """What differs between two keys, in words: `lora_r: 16 -> 8, data/train changed`."""
    names = [(part, n) for part in old for n in sorted(old[part] | new[part])]
    pairs = [(part, n, old[part].get(n), new[part].get(n)) for part, n in names]
    return ", ".join(f"{n}: {before} -> {after}" if part == "parameters" else f"{n} changed"
                     for part, n, before, after in pairs if before != after)


def status(name: str, params: Any) -> tuple[bool, str]:
    """Whether a step is finished for these parameters, and why it is or is not."""
    folder, now = outputs() / params.study, key(name, params)
    done, begun = mark(folder, name), mark(folder, name, "begun")
    if absent := [path for path, sha in now["inputs"].items() if sha is None]:
        return False, f"waits for {absent[0]} of {maker(absent[0])}"
    if not done:
        return False, "goes on where it stopped" if begun.get("key") == now else "not run yet"
    if changed := _difference(done["key"], now):
        return False, changed
    recorded = {folder / path: record for path, record in done["outputs"].items()}
    root = ROOT / params.data_root
    if root.is_dir():  # data that has been moved away cannot have changed
        recorded |= {root / path: record for path, record in done["external"].items()}
    for path, record in recorded.items():
        if not provenance.holds(path, record):
            return False, f"{path.name} is not as it was"
    if name == "04_eval" and (fitting := _fit_now(folder)):
        return False, f"{', '.join(fitting)} {'fits' if len(fitting) == 1 else 'fit'} here now"
    if done["code"] != provenance.code(notebook(name)):
        return True, f"finished, made by commit {done['commit']}, other code now; --fresh {name[:2]} to redo"
    return True, "finished"


def _fit_now(folder: Path) -> list[str]:
    """Models that 04 left out for want of memory, and for which there is enough here."""
    path = folder / "predictions" / LEFT_OUT
    left = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [name for name in left if left[name]["needed_gb"] <= memory.at_hand().gb]


def begin(name: str, params: Any) -> "Step":
    """Starts a step, or goes on with it; the third code cell of every notebook.

    What the step wrote under another key is set aside first, so that old and new never mix. Raises
    StudyError where an input is missing or not as it was written.
    """
    folder, now = outputs() / params.study, key(name, params)
    command = f"python -m sm70lib run params/{params.study}.yml"
    for path, sha in now["inputs"].items():
        made_by = maker(path)
        if sha is None:
            raise StudyError(f"{name} needs {path} of study {params.study}: run {made_by} first ({command})")
        if not (folder / path).exists() or digest(folder / path) != sha:
            raise StudyError(f"{folder / path} is not as {made_by} wrote it: make it again "
                             f"({command} --fresh {made_by[:2]})")
    last = mark(folder, name, "begun") or mark(folder, name)
    if last and last["key"] != now:
        set_aside(folder, name)
    write_json(folder / "steps" / name / "begun.json", {"key": now, "process": os.getpid()})
    os.environ["SM70_STUDY_FOLDER"] = str(folder)  # for progress(), in processes started from here too
    return Step(name, params, folder, now, provenance.code(notebook(name)), time.monotonic(), provenance.energy())


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

    def finish(self, *artifacts: str, external: dict[str, Path] | None = None, notes: dict | None = None) -> None:
        """Records what was written and marks the step finished: the last act of a notebook.

        artifacts: files, folders or patterns below `folder`, less what other steps recorded. external: files
        read from data_root, by their name there. notes: what else the manifest should tell. Raises StudyError
        where an artifact is missing.
        """
        for pattern in artifacts:
            if not any(self.folder.glob(pattern)):
                raise StudyError(f"{self.name} was to write {pattern} and did not: run its cells in order")
        paths, used = _owned(self.folder, self.name, artifacts), provenance.energy()
        write_json(self.folder / "steps" / self.name / "done.json", {
            "step": self.name, "study": self.folder.name, **_rehearsed(self.folder), "key": self.key, "code": self.code,
            "parameters": {n: getattr(self.params, n) for n in provenance.declared(notebook(self.name))},
            "outputs": {path.relative_to(self.folder).as_posix(): provenance.record(path) for path in paths},
            "external": {name: provenance.record(path) for name, path in (external or {}).items()},
            "seconds": round(time.monotonic() - self.started, 1), "notes": notes or {},
            "energy_kwh": None if None in (self.energy, used) else round(used - self.energy, 4),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"), **provenance.circumstances()})
        (self.folder / "steps" / self.name / "begun.json").unlink(missing_ok=True)
        _write_manifest(self.folder)


def _owned(folder: Path, name: str, patterns: tuple[str, ...]) -> list[Path]:
    """What lies at the patterns, less what other steps recorded as theirs (05 and 06 share folders)."""
    others = [mark(folder, other).get("outputs", ()) for other in STEPS if other != name]
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(found - {folder / path for outputs in others for path in outputs})


def _rehearsed(folder: Path) -> dict[str, str]:
    """What a mark says of a rehearsed study, and of no other."""
    said = rehearsal(folder.name)
    return {"rehearsal": said} if said else {}


def _write_manifest(folder: Path) -> None:
    """Gathers the marks of a study, and its parameters as used, in one file."""
    done = {name: mark(folder, name) for name in STEPS if mark(folder, name)}
    last = max(done.values(), key=lambda step: step["finished"])
    used = {n: value for step in done.values() for n, value in step["parameters"].items()}
    write_json(folder / "manifest.json", {
        "study": folder.name, **_rehearsed(folder), "parameters": used,
        "seeds": {n: used[n] for n in used if n.endswith(("seed", "seeds"))},
        "steps": done, **{n: last[n] for n in ("commit", "versions", "hardware", "finished")}})


def set_aside(folder: Path, name: str) -> None:
    """Clears what a step wrote: a finished result moves to replaced/, a half-made one is deleted."""
    marks, kept = folder / "steps" / name, folder / "replaced" / name
    finished = (marks / "done.json").exists()
    for path in (*_owned(folder, name, WRITES[name]), marks / "begun.json", marks / "done.json"):
        target = kept / path.relative_to(folder) if finished else path
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        if finished and path.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


class progress(tqdm):
    """A tqdm that the runner shows, as it writes progress.json at most once a second instead of drawing.

    with progress(300, "step", "finetune") as bar: bar.update()
    """

    monitor_interval = 0

    def __init__(self, total: int, unit: str, what: str, study_folder: str | Path | None = None):
        folder = study_folder or os.environ.get("SM70_STUDY_FOLDER")
        self.path = Path(folder) / "progress.json" if folder else None
        super().__init__(total=total, unit=unit, desc=what, file=io.StringIO(), mininterval=1, miniters=1)

    def display(self, *args: Any, **kwargs: Any) -> None:
        """Writes what, unit, how many of how many, and the seconds left."""
        rate = self.format_dict["rate"] or self.n / (self.format_dict["elapsed"] or 1)
        left = max(self.total - self.n, 0) / rate if rate else None
        if self.path:
            write_json(self.path, {"unit": self.unit, "n": self.n, "total": self.total, "seconds_left": left})

    def close(self) -> None:
        """Takes the file away: nothing is under way any more."""
        super().close()
        if self.path:
            self.path.unlink(missing_ok=True)
