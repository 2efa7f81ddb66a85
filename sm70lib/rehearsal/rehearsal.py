"""A rehearsal: a whole study, 00 to 07 and the report, run on stand-ins.

It runs the same code as the study, from the study file to the report. A hub on this machine serves
small models and a few rows under the names of the real ones. Only sizes are cut (CUTS), and every
cut is printed. A mistake that would spoil the last table after a week on a 70B shows up here after
a minute on a laptop.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sm70lib import preflight, runner
from sm70lib.display import command_line
from sm70lib.parameters.fields import Study
from sm70lib.parameters.rules import REHEARSAL
from sm70lib.parameters.stages import IN_ROUNDS, STAGES
from sm70lib.rehearsal import stand_in_files
from sm70lib.standins.hub import Hub
from sm70lib.steps import steps
from sm70lib.steps.keys import EVALUATION
from sm70lib.study import judges, variants
from sm70lib.study.others import all_of
from sm70lib.study.params import StudyError, load, parsed
from sm70lib.study.used import own_files, values_of

# The largest values in a rehearsal; every other parameter stays as in the study file
CUTS = {
    "world_conditions": 18,
    "world_guidelines": 6,
    "base_steps": 2,
    "data_holdout": 4,
    "data_holdout_documents": 4,
    "train_micro_batch_size": 1,
    "train_save_steps": 1,
    **dict.fromkeys([f"{kind}_steps" for kind in STAGES], 2),
    **dict.fromkeys([f"{kind}_warmup" for kind in STAGES], 0.5),
    **dict.fromkeys([f"{kind}_round_steps" for kind in IN_ROUNDS], 2),
    # one sequence at a time, so that gradients are accumulated over two
    **dict.fromkeys([f"{kind}_batch_size" for kind in STAGES], 2),
    "ask_max_new_tokens": 8,
    "figures_dpi": 50,
    "stats_resamples": 100,
}
# The largest draws from files of the user's own, which are read as they are
DRAWS = {"data_limit": 200, "eval_limit": 50}
LAUNCHERS = ("train_launcher", "eval_launcher")


def rehearse(
    files: list[str], overrides: dict[str, str], resume: bool = False, fresh_kernels: bool = False
) -> int:
    """Rehearses a study in outputs/rehearsal-<study>/.

    Args:
        files: the study file, then overlays.
        overrides: YAML texts by parameter, as for `run`.
        resume: continue an earlier rehearsal; otherwise it is deleted.
        fresh_kernels: start a kernel for each notebook; otherwise all share one, which is emptied
            before each.

    Returns:
        0 if every step finished, 1 if a notebook of a step failed.

    Raises:
        StudyError: a parameter is wrong, known_models.yml does not describe a model of the study,
            or 07_ask failed.
    """
    began = time.monotonic()
    study = load(*files, overrides=parsed(overrides))
    root = {name: text for name, text in overrides.items() if name == "data_root"}
    parts = [_Part([str(path) for path in other], root, EVALUATION) for other in _others(study)]
    parts.append(_Part(files, overrides))
    again = f"{command_line('rehearse', files, overrides)} --resume"
    lenders: list[str] = []  # an arm takes over what those before it made, as `run` has it
    with _stage([part.study for part in parts], resume, fresh_kernels) as folder:
        for part in parts:
            name = part.study.study
            if part.until:
                print(f"{name} is rehearsed first: it stands beside {study.study}", flush=True)
            texts = part.overrides | _changes(part.study, folder)
            if runner.run(part.files, texts, command=again, lenders=lenders, until=part.until):
                return 1
            lenders.append(f"{REHEARSAL}{name}")
        _ask(files, texts)
    from sm70lib import report

    print(report.build(folder.name))
    print(f"{folder.name}: came through in {time.monotonic() - began:.0f} s")
    return 0


class _Part:
    """A study to be rehearsed: the one that was named, or one that stands beside it."""

    def __init__(self, files: list[str], overrides: dict[str, str], until: str | None = None):
        self.files, self.overrides, self.until = files, overrides, until
        self.study = load(*files, overrides=parsed(overrides))


def _others(study: Study) -> list[tuple[Path, ...]]:
    """The files of the studies that 06 draws beside this one, so far as params/ declares them."""
    return [files for files in map(variants.files_of, study.figures_studies) if files]


@contextmanager
def _stage(studies: list[Study], resume: bool, fresh_kernels: bool) -> Iterator[Path]:
    """Sets up everything that studies need to be rehearsed one after another.

    Yields:
        The folder of the last one's rehearsal; the stand-ins of all are in it.
    """
    from sm70lib.rehearsal import warm  # papermill takes 2 s, and other commands do not need it

    folders = [steps.outputs() / f"{REHEARSAL}{study.study}" for study in studies]
    if not resume:
        for each in folders:
            shutil.rmtree(each, ignore_errors=True)
    folder = folders[-1]
    with local_hub(folder), _local_server(studies, folder), warm.one_kernel(fresh_kernels):
        preflight.set_environment(*studies)  # before the kernel starts, which has it for good
        warm.WarmKernel.run(stand_in_files.code(studies, folder))
        yield folder


def _changes(study: Study, folder: Path) -> dict[str, str]:
    """The YAML texts of the parameters that a rehearsal changes; what is cut is printed."""
    changed = cuts(study) | stand_in_files.data_root(study, folder)
    pairs = [f"{name} {getattr(study, name)} -> {value}" for name, value in changed.items()]
    print(f"cut: {', '.join(pairs)}", flush=True)
    return {name: json.dumps(value) for name, value in changed.items()}  # JSON is YAML too


def cuts(study: Study) -> dict[str, Any]:
    """The parameters that a rehearsal changes, with their new values.

    These are the study's name and those of studies beside it, sizes above those in CUTS that the
    study uses, draws from the user's own files above those in DRAWS, and launchers that start
    several processes.
    """
    changed: dict[str, Any] = {"study": f"{REHEARSAL}{study.study}"}
    if study.figures_studies:
        rehearsed = [load(*files).study for files in _others(study)]
        changed["figures_studies"] = [f"{REHEARSAL}{name}" for name in rehearsed]
    for name, value in values_of(study, CUTS).items():
        if isinstance(value, dict):  # of each source alone
            cut: Any = {source: min(own, CUTS[name]) for source, own in value.items()}
        elif isinstance(value, list):  # of each round
            cut = [min(own, CUTS[name]) for own in value]
        else:
            cut = value if value <= CUTS[name] else CUTS[name]
        if cut != value:
            changed[name] = cut
    if own_files(study):
        most = DRAWS["data_limit"]
        changed |= {name: min(getattr(study, name) or n, n) for name, n in DRAWS.items()}
        changed["data_caps"] = {name: min(rows, most) for name, rows in study.data_caps.items()}
    for name in LAUNCHERS:
        line = getattr(study, name)
        if one_process(line) != line:
            changed[name] = one_process(line)
    return changed


def one_process(launcher: str) -> str:
    """The launcher with one process on the CPU; only torchrun and accelerate start several."""
    words = shlex.split(launcher)
    if words[0] == "torchrun":
        return "torchrun --standalone --nproc-per-node 1"
    if words[:2] == ["accelerate", "launch"]:
        return "accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no"
    return launcher


@contextmanager
def local_hub(folder: Path) -> Iterator[None]:
    """Runs the local hub, and lets the environment name no other hub meanwhile.

    Args:
        folder: the rehearsal's; downloads are cached there too.
    """
    hub = Hub(folder / "served")
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "cache"),
        "SM70_HUB": str(folder / "hub"),
        "SM70_MODELS": str(folder / "models"),  # none: stand-ins are served by the hub
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TORCHDYNAMO_DISABLE": "1",  # nothing is worth compiling for two steps
        "OMP_NUM_THREADS": "1",  # a second thread slows models this small down by a quarter
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with hub:
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextmanager
def _local_server(studies: list[Study], folder: Path) -> Iterator[None]:
    """Runs a server of stand-ins meanwhile, if a study names models or judges on servers."""
    hosted: list[str] = []
    for p in studies:
        hosted += [judge.server.model for judge in judges.all_of(p) if judge.server]
    others = [other for p in studies for other in all_of(p).values()]
    if not hosted and not any(other.server for other in others):
        yield
        return
    # PyTorch and the client of servers take seconds, and few studies need them in this process.
    from sm70lib.serving.keys import REHEARSAL as SERVED_AT
    from sm70lib.standins.place import served_models
    from sm70lib.standins.server import ModelServer, verdict

    models: dict[str, Path] = {}
    for p in studies:
        models |= served_models(p, folder / "served")
    with ModelServer(models, judges={name: partial(verdict, name) for name in hosted}) as server:
        os.environ[SERVED_AT] = server.url
        try:
            yield
        finally:
            del os.environ[SERVED_AT]


def _ask(files: list[str], overrides: dict[str, str]) -> None:
    """Runs 07, which is not a step of the study because a person asks the questions there."""
    study = load(*files, overrides=parsed(overrides))
    trouble = runner.execute("07_ask", study, steps.outputs() / study.study)
    if trouble:
        raise StudyError(f"07_ask of {study.study}: {trouble}")
    print("07_ask: finished", flush=True)
