"""The memory that a model may use on this machine: the GPU's, or the machine's if it has no GPU."""

import math
import os
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml

from sm70lib.study.params import StudyError

GB = 10**9  # bytes
LIMIT = "SM70_MEMORY_GB"  # environment variable: a limit in GB, e.g. on a shared machine


@dataclass(frozen=True)
class Memory:
    """The memory for a model and its computations.

    Attributes:
        gb: Size in GB (10^9 bytes).
        where: Name of the GPU, or `this machine`.
        gpu: Whether it is a GPU's memory.
        limited: Whether $SM70_MEMORY_GB limits it.
    """

    gb: float
    where: str
    gpu: bool
    limited: bool = False


def at_hand() -> Memory:
    """All memory of the smallest GPU, or of the machine, but at most $SM70_MEMORY_GB.

    Raises:
        StudyError: $SM70_MEMORY_GB is set, and is not a number above 0.
    """
    gpus = _gpus()
    if gpus:
        present = min(gpus, key=lambda card: card.gb)
    else:
        present = Memory(ram_gb(), "this machine", False)
    limit = os.environ.get(LIMIT)
    if limit is None:
        return present
    try:
        allowed = float(limit)
    except ValueError:
        allowed = math.nan
    if not allowed > 0:
        raise StudyError(
            f"the environment variable {LIMIT} is {limit!r}: give a number of GB above 0, "
            "or unset it"
        )
    return Memory(
        min(present.gb, allowed), f"{present.where}, limited by {LIMIT}", present.gpu, True
    )


def ram_gb() -> float:
    """The machine's memory (GB)."""
    return psutil.virtual_memory().total / GB


def rounded_up(size: float) -> float:
    """Converts bytes to GB, rounded up to three decimals, for comparisons and for records."""
    return math.ceil(size / GB * 1000) / 1000


def words(gb: float) -> str:
    """Formats GB, e.g. `138 GB`, `36.9 GB` or `0.004 GB`."""
    if gb >= 100:
        return f"{gb:,.0f} GB"
    if gb >= 1:
        return f"{gb:,.1f} GB"
    return f"{gb:,.3f} GB"


def cards() -> list[Any]:
    """The driver's handles of the GPUs that this process may use (CUDA_VISIBLE_DEVICES).

    Raises:
        pynvml.NVMLError: There is no driver.
    """
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return handles
    numbers = [word.strip() for word in visible.split(",")]
    if all(word.isdigit() for word in numbers):
        return [handles[int(word)] for word in numbers if int(word) < len(handles)]
    if numbers[0] in ("", "-1"):
        return []
    return handles  # other names, such as UUIDs, are not looked up


def _gpus() -> list[Memory]:
    """The memory of the GPUs that this process may use; empty without a driver."""
    try:
        return [_card(handle) for handle in cards()]
    except pynvml.NVMLError:
        return []


def _card(handle: Any) -> Memory:
    size = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Memory(size / GB, pynvml.nvmlDeviceGetName(handle), True)
