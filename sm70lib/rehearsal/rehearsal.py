"""A rehearsal: a study file run whole, 00 to 07 and the report, on stand-ins.

Nothing in the way from the study file to the report is replaced. A hub on this machine serves the
stand-ins, small models and a few rows, under their real names, and only sizes are cut (CUTS); what
is cut is printed. So what would end a week on a 70B in a table that cannot be drawn ends here, in a
minute on a laptop.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sm70lib import runner
from sm70lib.rehearsal.hub import Hub
from sm70lib.study import steps
from sm70lib.study.fields import Study
from sm70lib.study.params import REHEARSAL, StudyError, load, parsed

# What is made smaller; everything else stays as the study file has it
CUTS = {
    "world_conditions": 18,
    "base_steps": 2,
    "data_holdout": 4,
    "train_micro_batch_size": 1,
    "train_save_steps": 1,
    **dict.fromkeys(("cpt_steps", "sft_steps", "dpo_steps"), 2),
    # two accumulations of one sequence
    **dict.fromkeys(("cpt_batch_size", "sft_batch_size", "dpo_batch_size"), 2),
    "ask_max_new_tokens": 8,
    "figures_dpi": 50,
    "figures_studies": [],
    "stats_resamples": 100,
}
LAUNCHERS = ("train_launcher", "eval_launcher")


def rehearse(
    files: list[str], overrides: dict[str, str], resume: bool = False, fresh_kernels: bool = False
) -> int:
    """Rehearses a study below outputs/rehearsal-<study>/.

    Args:
        files: the study file, then overlays.
        overrides: YAML texts by parameter, as for `run`.
        resume: go on with an earlier rehearsal, which is deleted otherwise.
        fresh_kernels: a kernel for each notebook; otherwise one serves all, emptied between them.

    Returns:
        0 when the study came through, 1 when a notebook failed.

    Raises:
        StudyError: a parameter is wrong, or nothing is known of a model that the study names.
    """
    began = time.monotonic()
    written = load(*files, overrides=parsed(overrides))
    changed = cuts(written)
    folder = steps.outputs() / f"{REHEARSAL}{written.study}"
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    with local_hub(folder):
        changed |= stand_ins(written, folder)
        _say(written, changed)
        texts = {name: json.dumps(value) for name, value in changed.items()}  # JSON is YAML too
        given = overrides | texts
        again = f"{runner.command_line('rehearse', files, overrides)} --resume"
        with _kernel(fresh_kernels):
            code = runner.run(files, given, command=again) or _ask(folder.name, files, given)
    if code == 0:
        from sm70lib import report

        print(report.build(folder.name))
        print(f"{folder.name}: came through in {time.monotonic() - began:.0f} s")
    return code


def cuts(study: Study) -> dict[str, object]:
    """The parameters that a rehearsal changes: its name, and what is larger in the study."""
    changed: dict[str, object] = {"study": f"{REHEARSAL}{study.study}"}
    unused = {kind for kind in ("cpt", "sft", "dpo") if kind not in study.train_stages}
    unused |= {"world"} if study.data_root != "world" else set()
    unused |= {"base"} if study.base_model else set()
    for name, value in CUTS.items():
        if name.partition("_")[0] not in unused and getattr(study, name) > value:
            changed[name] = value
    for name in LAUNCHERS:
        if (line := one_process(getattr(study, name))) != getattr(study, name):
            changed[name] = line
    return changed


def one_process(launcher: str) -> str:
    """The launcher with one process on the CPU; only torchrun and accelerate start more."""
    words = shlex.split(launcher)
    if words[0] == "torchrun":
        return "torchrun --standalone --nproc-per-node 1"
    if words[:2] == ["accelerate", "launch"]:
        return "accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no"
    return launcher


@contextmanager
def local_hub(folder: Path) -> Iterator[None]:
    """Runs the local hub, in an environment that knows no other, until the rehearsal is over."""
    hub = Hub(folder / "served")
    ours = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "cache"),
        "SM70_HUB": str(folder / "hub"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",  # models this small lose a quarter of their time to a second thread
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        with hub:
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def stand_ins(study: Study, folder: Path) -> dict[str, object]:
    """Makes what the study will look for; returns `data_root` where that is a folder of files."""
    from sm70lib.rehearsal import place

    served, local = folder / "served", folder / ("hub" if study.data_root == "hub" else "data-root")
    texts = place.data(study, served, local)
    names = place.stand_in_models(study, texts, served)
    print(
        f"stand-ins for {', '.join(names) or 'no model'}; {len(texts):,} texts as data", flush=True
    )
    return {} if study.data_root in ("world", "hub") else {"data_root": str(local)}


def _say(study: Study, changed: dict[str, object]) -> None:
    pairs = [f"{name} {getattr(study, name)} -> {value}" for name, value in changed.items()]
    print(f"cut: {', '.join(pairs)}", flush=True)


@contextmanager
def _kernel(fresh: bool) -> Iterator[None]:
    """Lets one warm kernel run all notebooks, by papermill's own door for engines."""
    if fresh:
        yield
        return
    from papermill.engines import papermill_engines

    from sm70lib.rehearsal.warm import WarmKernel

    cold = papermill_engines.get_engine()
    papermill_engines.register(None, WarmKernel)
    try:
        yield
    finally:
        papermill_engines.register(None, cold)
        WarmKernel.stop()


def _ask(name: str, files: list[str], given: dict[str, str]) -> int:
    """07, which is no step of a study, since a hand asks there: its cells run too."""
    study = load(*files, overrides=parsed(given))
    trouble = runner.execute("07_ask", study, steps.outputs() / name)
    if trouble:
        raise StudyError(f"07_ask of {name}: {trouble}")
    print("07_ask: finished", flush=True)
    return 0
