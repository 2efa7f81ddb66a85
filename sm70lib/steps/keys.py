"""Keys: everything that decides the result of a step, of a training stage or of a merge."""

import hashlib
import json
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sm70lib.parameters.fields import BEFORE
from sm70lib.parameters.stages import IN_ROUNDS, READS, STAGES, steps_of
from sm70lib.records import marks
from sm70lib.study import files, provenance
from sm70lib.study.params import ROOT, affects
from sm70lib.study.used import trains_all, values_of

STEPS: dict[str, tuple[str, ...]] = {  # what each step reads below outputs/<study>/
    "00_base": (),
    "01_data": ("base/tokenizer", "base/world"),
    "02_load_4bit": ("base/base.json", "base/model"),
    "03_qlora_finetune": (
        "base/base.json",
        "base/model",
        "data/train",
        "data/holdout",
        "data/text",
        "data/preferences",
    ),
    "04_eval": (
        "base/base.json",
        "base/model",
        "adapter",
        "stages/*/adapter",
        "merged/*",
        "data/benchmarks",
    ),
    "05_error_analysis": (
        "base/base.json",
        "predictions",
        "data/benchmarks",
        "data/contaminated_items.csv",
    ),
    "06_figures": (
        "base/base.json",
        "predictions",
        "data/benchmarks",
        "data/*.csv",
        "memory.csv",
        "base/metrics.jsonl",
        "stages/*/metrics.jsonl",
        "stages/*/holdout.csv",
    ),
}
WRITES: dict[str, tuple[str, ...]] = {  # what each step writes there
    "00_base": ("base",),
    "01_data": ("data",),
    "02_load_4bit": ("memory.csv",),
    "03_qlora_finetune": ("adapter", "stages", "merged"),
    "04_eval": ("predictions",),
    "05_error_analysis": ("tables/errors*", "figures/errors*"),
    "06_figures": ("tables/*", "figures/*", "scorecard*"),
}
TUNING, EVALUATION = "03_qlora_finetune", "04_eval"
QUICK = ("01_data", "05_error_analysis", "06_figures")  # made again when their code changes
# What stages leave if they train all weights: a model each, and no copy of the last one
WHOLE = {"adapter": "stages/*/model", "stages/*/adapter": "stages/*/model"}
OPTIONAL = (
    # only if the base is trained here
    "base/world",
    "base/model",
    "base/metrics.jsonl",
    # only if a training stage needs or makes them
    "data/text",
    "data/preferences",
    "stages/*/adapter",
    "merged/*",
    "stages/*/holdout.csv",
)

Key = dict[str, dict[str, Any]]  # `parameters`, `inputs` (digests by path) and `code` (by file)


def outputs() -> Path:
    """The folder of all studies: $SM70_OUTPUTS, or outputs/ in the repository."""
    return Path(os.environ.get("SM70_OUTPUTS", ROOT / "outputs")).resolve()


def notebook(name: str) -> Path:
    """The notebook of a step, in $SM70_NOTEBOOKS or in notebooks/ in the repository."""
    return Path(os.environ.get("SM70_NOTEBOOKS", ROOT / "notebooks")).resolve() / f"{name}.ipynb"


def mark(folder: Path, name: str, kind: str = "done") -> dict[str, Any]:
    """Reads a mark of a step.

    Args:
        folder: outputs/<study>.
        name: The step.
        kind: `done`, `begun` or `merged`.

    Returns:
        The content of `steps/<name>/<kind>.json`; empty if there is none, or it is broken.
    """
    found = read(folder / "steps" / name / f"{kind}.json")
    return found if marks.is_whole(found, kind) else {}


def broken_marks(folder: Path, name: str) -> list[Path]:
    """The marks of a step that are there and cannot be read, or a file in their folder's place."""
    for place in (folder / "steps", folder / "steps" / name):
        if os.path.lexists(place) and not place.is_dir():
            return [place]
    paths = {kind: folder / "steps" / name / f"{kind}.json" for kind in marks.KINDS}
    return [
        path
        for kind, path in paths.items()
        if os.path.lexists(path) and not marks.is_whole(_json(path), kind)
    ]


def read(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty if the file does not exist, or holds something else."""
    found = _json(path)
    return found if isinstance(found, dict) else {}


def key_in(path: Path) -> Key | None:
    """The key in a stage's or a merge's file; None if there is none, or it is broken."""
    found = read(path)
    return found["key"] if marks.is_whole(found, "begun") else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def maker(path: str) -> str:
    """The step that writes a file or folder of a study; "" if no step does."""
    parts = set(path.removeprefix("../").split("/"))
    return next((name for name, owned in WRITES.items() if parts & set(owned)), "")


def of_step(name: str, params: Any) -> Key:
    """The key of a step: its parameters, digests of its inputs and, for quick steps, of its code.

    It lacks parameters that do not count (see `used`), `train_merge`, since merges have own keys,
    and the look of figures where none is written to a file: no training is redone for a colour.
    """
    declared = provenance.declared(notebook(name))
    counting = [n for n in declared if affects(n) != "nothing" and n != "train_merge"]
    if not any(path.startswith("figures/") for path in WRITES[name]):
        counting = [n for n in counting if not n.startswith("figures_")]
    values = _told(values_of(params, counting))
    if "train_stages" in values and name != TUNING:  # how often there is a stage plays no part
        values["train_stages"] = list(dict.fromkeys(values["train_stages"]))
    if "data_root" in declared:  # the contents of a folder count, not its place
        in_folder = params.data_root not in ("world", "hub")
        values["data_root"] = "a folder" if in_folder else params.data_root
    code = provenance.code(notebook(name)) if name in QUICK else {}
    return {"parameters": values, "inputs": _inputs(name, params), "code": code}


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """The values without those that say what was done before their parameter came.

    A study that was finished before then keeps its keys.
    """
    return {n: value for n, value in values.items() if n not in BEFORE or value != BEFORE[n]}


def _inputs(name: str, params: Any) -> dict[str, str | None]:
    """Digests of a step's inputs, as recorded by the steps that made them; None if not made yet."""
    patterns = STEPS[name]
    if trains_all(params):
        patterns = tuple(dict.fromkeys(WHOLE.get(pattern, pattern) for pattern in patterns))
    wanted = [("", pattern) for pattern in patterns]
    if name == "06_figures":
        others = getattr(params, "figures_studies", ())
        wanted += [(f"../{other}/", "predictions") for other in others]
    digests: dict[str, str | None] = {}
    for study, pattern in wanted:
        # Where the study is a link, the system would look for `..` behind the link.
        place = Path(os.path.normpath(outputs() / params.study / study))
        recorded = mark(place, maker(pattern)).get("outputs", {})
        matching = [path for path in recorded if fnmatch(path, pattern)]
        digests |= {f"{study}{path}": recorded[path]["sha256"] for path in matching}
        if not matching and pattern not in OPTIONAL:
            digests[f"{study}{pattern}"] = None
    return digests


def of_stage(p: Any, folder: Path, number: int, seed: int) -> Key:
    """The key of what a training stage makes; it contains the key of the stage before.

    Args:
        p: The study's parameters.
        folder: outputs/<study>.
        number: The stage, from 1.
        seed: The training seed.
    """
    kind = p.train_stages[number - 1]
    own = ("quant_", "lora_", "full_", "train_parameters", f"{kind}_", "data_max_length")
    declared = [n for n in provenance.declared(notebook(TUNING)) if affects(n) != "nothing"]
    values = _told(values_of(p, [n for n in declared if n.startswith(own)]))
    values |= {"kind": kind, "train_seed": seed}
    if STAGES[kind].reads != "rows":  # the other kinds draw their held-out rows during training
        values |= {"seed": p.seed, "data_holdout": p.data_holdout}
    if kind in IN_ROUNDS:
        values.pop(f"{kind}_round_steps", None)  # how long other rounds are plays no part
        values[f"{kind}_steps"] = steps_of(p, number)
        values["round"] = p.train_stages[:number].count(kind)
    inputs = _contents(folder, "base/base.json", "base/model", *READS[STAGES[kind].reads])
    if number > 1:
        inputs[f"stage {number - 1}"] = short(of_stage(p, folder, number - 1, seed))
    return {"parameters": values, "inputs": inputs, "code": {}}


def stage_folder(p: Any, folder: Path, number: int, seed: int) -> Path:
    """`stages/<number>-<kind>`, with `-seed<seed>` for all but the first of `train_seeds`."""
    suffix = "" if seed == p.train_seeds[0] else f"-seed{seed}"
    return folder / "stages" / f"{number}-{p.train_stages[number - 1]}{suffix}"


def of_merge(p: Any, folder: Path, into: str) -> Key:
    """The key of a merged model: adapter, base, quantisation and the kind of base (`into`)."""
    values = {n: getattr(p, n) for n in ("quant_type", "quant_double", "quant_compute_dtype")}
    inputs = _contents(folder, "adapter", "base/base.json", "base/model")
    return {"parameters": values | {"into": into}, "inputs": inputs, "code": {}}


def _contents(folder: Path, *paths: str) -> dict[str, str | None]:
    """Digests of the files that are there now; None for a missing one.

    A file is read only if its record no longer holds.
    """
    digests = {}
    for path in paths:
        recorded = mark(folder, maker(path)).get("outputs", {}).get(path)
        now = files.record(folder / path, recorded)
        digests[path] = now["sha256"] if now else None
    return digests


def short(key: Key) -> str:
    """The first 12 hex digits of a key's sha256."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
