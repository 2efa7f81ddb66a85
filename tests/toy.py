"""A toy study of seven small notebooks, with the real names, inputs and outputs."""

import json
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

from sm70lib.steps import replaced, steps
from sm70lib.study import params
from sm70lib.study.params import ROOT

HEAD = (
    "from sm70lib.steps import steps\nfrom sm70lib.study import params\np = params.check(globals())"
)


# By notebook: the parameters cell, and the code of the step
TOY = {
    "00_base": (
        "study: str = 'tiny'  # name\nworld_seed: int = 11  # seed\nbase_steps: int = 9  # steps",
        """
for part in ("tokenizer", "model", "world"):
    steps.write_text(step.path(f"base/{part}/content.txt"), f"{part} {p.world_seed} {p.base_steps}")
steps.write_text(step.path("base/base.json"), "{}")
step.finish("base/*")""",
    ),
    "01_data": (
        "study: str = 'tiny'  # name\ndata_root: str = 'world'  # folder\n"
        "data_limit: Optional[int] = None  # rows",
        """
external = {}
if p.data_root != "world":
    external["rows.txt"] = steps.ROOT / p.data_root / "rows.txt"
text = "".join(path.read_text() for path in external.values())
for part in ("train", "holdout", "benchmarks"):
    steps.write_text(step.path(f"data/{part}/content.txt"), f"{part} {p.data_limit} {text}")
for part in ("sources", "defects", "contamination", "contaminated_items"):
    steps.write_text(step.path(f"data/{part}.csv"), part)
step.finish("data/train", "data/holdout", "data/benchmarks", "data/*.csv", external=external)""",
    ),
    "02_load_4bit": (
        "study: str = 'tiny'  # name\nquant_type: str = 'nf4'  # kind",
        """
steps.write_text(step.path("memory.csv"), p.quant_type)
step.finish("memory.csv")""",
    ),
    "03_qlora_finetune": (
        "study: str = 'tiny'  # name\nlora_r: int = 16  # rank\n"
        "sft_steps: int = 300  # steps\ntrain_micro_batch_size: int = 16  # rows",
        """
import os, signal
log = step.path("stages/1-sft/log.txt")
with steps.progress(3, "step", "sft") as bar:
    for number in range(len(log.read_text().split()) if log.exists() else 0, 3):
        with log.open("a") as file:
            file.write(f"{number} ")
        bar.update()
        trap = steps.outputs() / "kill"
        if number == 1 and trap.exists():
            trap.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
steps.write_text(step.path("adapter/adapter_config.json"), str(os.getpid()))
weights = f"{p.lora_r} {p.sft_steps} {log.read_text()}"
steps.write_text(step.path("adapter/adapter_model.safetensors"), weights)
steps.write_text(step.path("stages/1-sft/metrics.jsonl"), "{}")
step.finish("adapter", "stages/*/metrics.jsonl")""",
    ),
    "04_eval": (
        "study: str = 'tiny'  # name\neval_limit: Optional[int] = None  # items\n"
        "eval_batch_tokens: int = 8192  # tokens",
        """
weights = (step.folder / "adapter/adapter_model.safetensors").read_text()
if (steps.outputs() / "raise").exists():
    raise RuntimeError("first line\\nscores are not finite")
steps.write_text(step.path("predictions/tuned/a.jsonl"), f"{weights} {p.eval_limit}")
step.finish("predictions")""",
    ),
    "05_error_analysis": (
        "study: str = 'tiny'  # name\nerrors_examples: int = 5  # items",
        """
steps.write_text(step.path("tables/errors.csv"), str(p.errors_examples))
step.finish("tables/errors*")""",
    ),
    "06_figures": (
        "study: str = 'tiny'  # name\nfigures_dpi: int = 150  # dots\n"
        "figures_studies: list[str] = []  # more",
        """
predictions = (step.folder / "predictions/tuned/a.jsonl").read_text()
steps.write_text(step.path("tables/main.csv"), predictions)
steps.write_text(step.path("figures/main.png"), str(p.figures_dpi))
step.finish("tables/*", "figures/*")""",
    ),
}


def notebook(cells: list[tuple[str, str]]) -> str:
    """Canonical notebook JSON of code cells (id, source); the cell `params` is tagged."""
    code_cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": name,
            "outputs": [],
            "metadata": {"tags": ["parameters"]} if name == "params" else {},
            "source": source.splitlines(keepends=True),
        }
        for name, source in cells
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = {
        "cells": code_cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one started and that ended.

    Unlike the time of day, it says the same on a machine that does other work too.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Toy:
    """Seven notebooks with the real names, inputs and outputs, and the tiny study's file."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / "tiny.yml"
        self.environment = {
            f"SM70_{name.upper()}": str(folder / name) for name in ("notebooks", "outputs")
        }
        self.study = folder / "outputs/tiny"
        (folder / "notebooks").mkdir(parents=True)
        for name in TOY:
            self.write(name)
        self.file.write_text((ROOT / "params/tiny.yml").read_text())

    def write(self, name: str, after: str = "", before: str = "") -> None:
        """Writes the notebook of a step, with code added after or before its own."""
        parameters, code = TOY[name]
        begin = f"step = steps.begin({name!r}, p)"
        work = f"{before}{code.strip()}\n{after}"
        if "Optional" in parameters:
            parameters = f"from typing import Optional\n{parameters}"
        cells = [("params", parameters), ("check", HEAD), ("begin", begin), ("work", work)]
        (self.folder / f"notebooks/{name}.ipynb").write_text(notebook(cells))

    def change(self, name: str, value: object) -> None:
        """Gives a parameter another value in the study file."""
        text = self.file.read_text()
        self.file.write_text(re.sub(rf"(?m)^{name}:.*", f"{name}: {value}", text))

    def command(self, *words: str) -> list[str]:
        """The command line that runs the toy study."""
        return [sys.executable, "-m", "sm70lib", "run", str(self.file), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """Runs the toy study in a process of its own."""
        return subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )


class Made:
    """Runs toy steps in this process, and counts how often each ran."""

    def __init__(self, toy: Toy):
        self.toy, self.ran = toy, Counter()

    @property
    def study(self):
        """The toy study's parameters as its file has them now."""
        return params.load(self.toy.file)

    def run(self, name: str, anew: bool = False) -> None:
        """Runs one step as its notebook would; `anew` means as after --fresh."""
        if anew:
            replaced.make_anew(name, self.study)
        step = steps.begin(name, self.study)
        exec(TOY[name][1], {"step": step, "steps": steps, "p": self.study})
        self.ran[name] += 1

    def all(self, again: tuple[str, ...] = ()) -> dict[str, int]:
        """Finishes every step.

        Args:
            again: steps that are made anew if their folder refuses other parameters.

        Returns:
            How often each step ran; steps that did not have to run are left out.
        """
        before = Counter(self.ran)
        for name in steps.STEPS:
            anew = name in again and replaced.judge(name, self.study).what == "refuses"
            if not anew:
                replaced.make_way(name, self.study)
            if not steps.status(name, self.study)[0]:
                self.run(name, anew)
        assert all(steps.status(name, self.study)[0] for name in steps.STEPS)
        return dict(self.ran - before)

    def why(self, name: str) -> str:
        """Why a step is not finished."""
        finished, why = steps.status(name, self.study)
        assert not finished
        return why


def tree(folder) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with content and time."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ran(ended: subprocess.CompletedProcess) -> list[str]:
    """Numbers of the steps that ran."""
    return re.findall(r"^(\d\d)\w+: runs", ended.stdout, re.MULTILINE)
