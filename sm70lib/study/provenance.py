"""What a result was made from: digests of files and code; commit, versions, hardware; files written whole."""

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

from sm70lib.study.fields import FIELDS
from sm70lib.study.files import digest
from sm70lib.study.params import LIB, ROOT, assigned

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
    return "\n".join(
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code"
        and ("parameters" in cell["metadata"].get("tags", ())) == parameters
    )


def declared(notebook: Path) -> list[str]:
    """The parameters that a notebook's parameters cell declares."""
    names = assigned(_sources(notebook, parameters=True))
    return [name for name in FIELDS if name in names]


def code(notebook: Path) -> dict[str, str]:
    """Digests of a notebook's cells, of the modules that their imports reach, and of tables these name.

    Comments and spacing do not count, nor does the parameters cell.
    """
    cells, waiting = _parsed(_sources(notebook, parameters=False), LIB)
    found = {notebook.name: cells}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(LIB).as_posix()
        if name not in found:
            found[name], further = _module(path)
            waiting = waiting + further
    return dict(sorted(found.items()))


@functools.cache  # a kernel goes on with the code that it imported, whatever the file says by now
def _module(path: Path) -> tuple[str, list[Path]]:
    return (
        _parsed(path.read_text(encoding="utf-8"), path.parent)
        if path.suffix == ".py"
        else (digest(path), [])
    )


def _parsed(source: str, beside: Path) -> tuple[str, list[Path]]:
    """Digest of a source without comments, and the files of this library that it imports or names.

    Tables (.csv, .yml) are named from the folder `beside` the module, or from the library's.
    """
    tree = ast.parse(re.sub(r"(?m)^[%!].*", "", source))
    modules, texts = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and str(node.value).endswith((".csv", ".yml")):
            texts.add(node.value)
    stems = [LIB.joinpath(*name.split(".")[1:]) for name in modules if name.startswith("sm70lib.")]
    paths = [path for stem in stems for path in (stem.with_suffix(".py"), stem / "__init__.py")]
    paths += [folder / text for text in texts for folder in {LIB, beside}]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), [
        path for path in paths if path.is_file()
    ]


def _says(*command: str) -> str:
    """What a program prints; nothing if it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def energy() -> float | None:
    """What all GPUs of this machine have used since their driver was loaded (kWh, from NVML); None without NVML."""
    try:
        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, cards)) / 3.6e9
    except pynvml.NVMLError:  # no driver, or cards too old to count
        return None


def circumstances() -> dict[str, Any]:
    """Commit (-dirty where files differ; None without git), versions, hardware, peak memory (GB).

    Beside them, whether the hub was switched off (HF_HUB_OFFLINE).

    The peak is that of this process and of its largest child.
    """
    kib = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    here = _says("git", "-C", str(ROOT), "rev-parse", "--show-toplevel") == str(ROOT)
    commit = _says(
        "git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"
    )
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return {
        "commit": commit if here and commit else None,
        "hub_offline": offline,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "hardware": {
            "machine": platform.platform(),
            "cpu": processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(memory / 1e9, 1),
            "gpus": _says("nvidia-smi", "-L").splitlines(),
            **arithmetic(),
        },
        "peak_memory_gb": round(sum(kib) * 1024 / 1e9, 3),
    }


def processor() -> str:
    """The model of this machine's processor, as the system names it."""
    said = _says("lscpu") or _says("sysctl", "-n", "machdep.cpu.brand_string")
    named = re.search(r"(?m)^Model name:\s*(.+)$", said)
    return named[1] if named else said.partition("\n")[0] or platform.machine()


def arithmetic() -> dict[str, Any]:
    """What the last bits of a result hang on, where PyTorch did the computing.

    A tiny model's accuracy moves by tens of points with these bits, so a manifest names them.

    Returns:
        `threads` that one operation is spread over, `kernels` (the instructions that PyTorch's own
        kernels were built for, such as AVX2), and `blas`, the library that multiplies matrices.
        Nothing where this process has not loaded PyTorch.
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
