"""What a result was made from: digests of code, commit, versions, hardware and energy."""

import ast
import functools
import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pynvml

from sm70lib.parameters.fields import FIELDS
from sm70lib.parameters.stages import for_every_kind
from sm70lib.parameters.tables import named_modules
from sm70lib.study import memory
from sm70lib.study.cells import assigned
from sm70lib.study.files import digest
from sm70lib.study.params import LIB, ROOT

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "numpy",
    "scipy",
    "statsmodels",
    "pandas",
    "pyarrow",
    "matplotlib",
    "seaborn",
    "papermill",
)


def _sources(notebook: Path, parameters: bool) -> str:
    """The source of a notebook's parameters cell, or of its other code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = []
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        tagged = "parameters" in cell["metadata"].get("tags", ())
        if tagged == parameters:
            sources.append("".join(cell["source"]))
    return "\n".join(sources)


def declared(notebook: Path) -> list[str]:
    """The parameters that a notebook's parameters cell declares, for every kind of stage."""
    names = for_every_kind(assigned(_sources(notebook, parameters=True)))
    return [name for name in FIELDS if name in names]


def code(notebook: Path) -> dict[str, str]:
    """Digests of the code behind a notebook.

    Comments, spacing and the parameters cell do not count.

    Returns:
        SHA-256 (hex) by file name: the notebook's cells, the modules of this library that they
        import, directly or through other modules, the tables that these modules name, and the
        modules of a catalogue's lines where the catalogue's own wing reads it.
    """
    cells, waiting = _parsed(_sources(notebook, parameters=False), LIB)
    digests = {notebook.name: cells}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(LIB).as_posix()
        if name not in digests:
            digests[name], further = _module(path)
            waiting = waiting + further
    return dict(sorted(digests.items()))


@functools.cache  # a kernel keeps the code that it imported, even if the file changes later
def _module(path: Path) -> tuple[str, list[Path]]:
    if path.suffix == ".py":
        return _parsed(path.read_text(encoding="utf-8"), path.parent)
    return digest(path), []


def _parsed(source: str, beside: Path) -> tuple[str, list[Path]]:
    """Digest of a source without comments, and the files of this library that it imports or names.

    A table (.csv, .yml) is looked up in the module's folder, `beside`, and in the library's.
    """
    tree = ast.parse(re.sub(r"(?m)^[%!].*", "", source))
    modules: set[str] = set()
    tables: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(f"{node.module}")
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.endswith((".csv", ".yml")):
                tables.add(node.value)
    paths = [folder / table for table in tables for folder in {LIB, beside}]
    for path in [path for path in paths if path.parent == beside and path.suffix == ".csv"]:
        paths += named_modules(path)
    for name in modules:
        if name.startswith("sm70lib."):
            stem = LIB.joinpath(*name.split(".")[1:])
            paths += [stem.with_suffix(".py"), stem / "__init__.py"]
    sha = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
    return sha, [path for path in paths if path.is_file()]


def _output_of(*command: str) -> str:
    """What a program prints; "" if the program does not exist or takes too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def energy() -> float | None:
    """The energy that this process's GPUs used since their driver was loaded (kWh).

    Returns:
        The sum over the GPUs that this process may use, as other studies may run on the others.
        None without one, without a driver, or if a card is too old to count.
    """
    try:
        used = [pynvml.nvmlDeviceGetTotalEnergyConsumption(card) for card in memory.cards()]
    except pynvml.NVMLError:
        return None
    return sum(used) / 3.6e9 if used else None  # from millijoules


def circumstances() -> dict[str, Any]:
    """Describes this process and machine for a manifest.

    Returns:
        `commit` (ends in -dirty if files differ; None without git), `hub_offline` (whether
        HF_HUB_OFFLINE is set), `versions`, `hardware`, and `peak_memory_gb`, the sum of the peaks
        of this process and of its largest child.
    """
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    peaks = [
        resource.getrusage(who).ru_maxrss  # KiB
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return {
        "commit": _commit(),
        "hub_offline": offline,
        "versions": {"python": platform.python_version()} | _versions(),
        "hardware": _hardware(),
        "peak_memory_gb": round(sum(peaks) * 1024 / 1e9, 3),
    }


@functools.cache  # a process keeps the packages that it imported
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _commit() -> str | None:
    here = _output_of("git", "-C", str(ROOT), "rev-parse", "--show-toplevel")
    if here != str(ROOT):  # no git, or the repository of a folder above
        return None
    commit = _output_of(
        "git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"
    )
    return commit or None


def _hardware() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": platform.platform(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "gpus": _output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines(),
        **arithmetic(),
    }


@functools.cache
def processor() -> str:
    """The model name of this machine's processor."""
    text = _output_of("lscpu") or _output_of("sysctl", "-n", "machdep.cpu.brand_string")
    name = re.search(r"(?m)^Model name:\s*(.+)$", text)
    if name:
        return name[1]
    return text.partition("\n")[0] or platform.machine()


def arithmetic() -> dict[str, Any]:
    """What decides the last bits of a result, if PyTorch did the computing.

    A tiny model's accuracy moves by tens of points with these bits, so a manifest names them.

    Returns:
        `threads` of one operation, `kernels` (the instructions that PyTorch's own kernels use, such
        as AVX2), and `blas`, the library that multiplies matrices. Empty if this process has not
        loaded PyTorch.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return {
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "blas": blas[1] if blas else None,
    }
