"""Keys: what decides the result of a step, of a training stage and of a merge, and what differs."""

import hashlib
import json
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sm70lib.study import files, provenance
from sm70lib.study.params import ROOT, affects

STEPS = {  # what a step reads below outputs/<study>/
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
    ),
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
TUNING, EVALUATION = "03_qlora_finetune", "04_eval"
QUICK = (
    "01_data",
    "05_error_analysis",
    "06_figures",
)  # made again when their code changes, others never
OPTIONAL = (
    "base/world",
    "base/model",
    "base/metrics.jsonl",  # made where the base is trained here
    "data/text",
    "data/preferences",
    "stages/*/adapter",
    "merged/*",
)  # and where a stage has them
STAGE_READS = {
    "cpt": ("data/text",),
    "sft": ("data/train", "data/holdout"),
    "dpo": ("data/preferences",),
}

Key = dict[str, dict[str, Any]]


def outputs() -> Path:
    """The folder of all studies: $SM70_OUTPUTS, or outputs/ in the repository."""
    return Path(os.environ.get("SM70_OUTPUTS", ROOT / "outputs")).resolve()


def notebook(name: str) -> Path:
    """The notebook of a step, in $SM70_NOTEBOOKS or in notebooks/ in the repository."""
    return Path(os.environ.get("SM70_NOTEBOOKS", ROOT / "notebooks")).resolve() / f"{name}.ipynb"


def mark(folder: Path, name: str, kind: str = "done") -> dict[str, Any]:
    """What a step's `done.json`, `begun.json` or `merged.json` says; empty if none."""
    return read(folder / "steps" / name / f"{kind}.json")


def read(path: Path) -> dict[str, Any]:
    """What a file of JSON says; empty if there is none, or a broken one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def maker(path: str) -> str:
    """The step that writes a file or folder of a study."""
    return next(
        name for name, owned in WRITES.items() if {*owned} & {*path.removeprefix("../").split("/")}
    )


def of_step(name: str, params: Any) -> Key:
    """What decides a step's result: parameters, digests of inputs and, of quick steps, of code.

    `train_merge` is not among 03's parameters: a merge has a key of its own.
    """
    declared = provenance.declared(notebook(name))
    values = {
        n: getattr(params, n) for n in declared if affects(n) != "nothing" and n != "train_merge"
    }
    if "data_root" in declared:  # its contents count, and not where they lie
        values["data_root"] = (
            params.data_root if params.data_root in ("world", "hub") else "a folder"
        )
    code = provenance.code(notebook(name)) if name in QUICK else {}
    return {"parameters": values, "inputs": _inputs(name, params), "code": code}


def _inputs(name: str, params: Any) -> dict[str, str | None]:
    """Digests of a step's inputs as their makers recorded them; None where one is not made yet."""
    wanted = [("", pattern) for pattern in STEPS[name]]
    if name == "06_figures":
        wanted += [
            (f"../{other}/", "predictions") for other in getattr(params, "figures_studies", ())
        ]
    found = {}
    for study, pattern in wanted:
        made = mark(outputs() / params.study / study, maker(pattern)).get("outputs", {})
        hits = {f"{study}{path}": made[path]["sha256"] for path in made if fnmatch(path, pattern)}
        found |= hits or ({} if pattern in OPTIONAL else {f"{study}{pattern}": None})
    return found


def of_stage(p: Any, folder: Path, number: int, seed: int) -> Key:
    """What decides the adapter of training stage `number` (from 1) with `seed`.

    The key of the stage before it is part of it.
    """
    kind = p.train_stages[number - 1]
    names = [
        n
        for n in provenance.declared(notebook(TUNING))
        if affects(n) != "nothing"
        and (n.startswith(("quant_", "lora_", f"{kind}_")) or n == "data_max_length")
    ]
    values = {n: getattr(p, n) for n in names} | {"kind": kind, "train_seed": seed}
    if kind != "sft":  # its rows held back are drawn when it is trained
        values |= {"seed": p.seed, "data_holdout": p.data_holdout}
    if kind == "dpo":
        values["round"] = p.train_stages[:number].count("dpo")
    inputs = _contents(folder, "base/base.json", "base/model", *STAGE_READS[kind])
    if number > 1:
        inputs[f"stage {number - 1}"] = short(of_stage(p, folder, number - 1, seed))
    return {"parameters": values, "inputs": inputs, "code": {}}


def stage_folder(p: Any, folder: Path, number: int, seed: int) -> Path:
    """`stages/<number>-<kind>` for the first of `train_seeds`; others have their seed behind it."""
    suffix = "" if seed == p.train_seeds[0] else f"-seed{seed}"
    return folder / "stages" / f"{number}-{p.train_stages[number - 1]}{suffix}"


def of_merge(p: Any, folder: Path, into: str) -> Key:
    """What decides a merged model: adapter, base, the kind of base merged into, quantisation."""
    values = {n: getattr(p, n) for n in ("quant_type", "quant_double", "quant_compute_dtype")}
    inputs = _contents(folder, "adapter", "base/base.json", "base/model")
    return {"parameters": values | {"into": into}, "inputs": inputs, "code": {}}


def _contents(folder: Path, *paths: str) -> dict[str, str | None]:
    """Digests of what lies there now (None for nothing), read only where a record does not hold."""
    found = {}
    for path in paths:
        recorded = mark(folder, maker(path)).get("outputs", {}).get(path)
        now = files.record(folder / path, recorded)
        found[path] = now and now["sha256"]
    return found


def difference(old: Key, new: Key, unknown: set[str] = frozenset()) -> str:
    """What differs between two keys, in words: `lora_r: 16 -> 8, data/train changed`.

    A parameter that only one of them knows was declared or taken out since by an edit of the code,
    which changes no result that is there. Inputs from steps whose results are `unknown` as yet are
    not compared.
    """
    named = [f"{n}: {before} -> {after}" for n, before, after in changed(old, new)]
    for part in ("inputs", "code"):
        before, after = old[part], new[part]
        differing = [n for n in sorted(before | after) if before.get(n) != after.get(n)]
        if part == "inputs" and unknown:
            differing = [n for n in differing if maker(n) not in unknown]
        named += [f"{n} changed" for n in differing]
    return ", ".join(named)


def changed(old: Key, new: Key) -> list[tuple[str, Any, Any]]:
    """Names of the parameters whose values differ, with both values."""
    before, after = old["parameters"], new["parameters"]
    return [
        (n, before[n], after[n])
        for n in sorted(before.keys() & after.keys())
        if before[n] != after[n]
    ]


def short(key: Key) -> str:
    """The first 12 hex digits of a key's sha256."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
