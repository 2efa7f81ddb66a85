"""The memory that a model may take on this machine: its GPU's, or its own where it has none."""

import math
import os
from dataclasses import dataclass

import psutil
import pynvml

from sm70lib.study.params import StudyError

GB = 10**9  # bytes
LIMIT = "SM70_MEMORY_GB"  # environment variable: a study may take no more, e.g. of a shared machine


@dataclass(frozen=True)
class Memory:
    """How much there is for a model and what it computes (GB, 10^9 bytes), and in what."""

    gb: float
    where: str
    gpu: bool
    limited: bool = False


def at_hand() -> Memory:
    """The smallest GPU's whole memory, or the machine's, and no more than $SM70_MEMORY_GB.

    Raises StudyError where that variable holds no number above 0.
    """
    cards = _gpus()
    found = (
        min(cards, key=lambda card: card.gb) if cards else Memory(ram_gb(), "this machine", False)
    )
    limit = os.environ.get(LIMIT)
    if limit is None:
        return found
    try:
        allowed = float(limit)
    except ValueError:
        allowed = math.nan
    if not allowed > 0:
        raise StudyError(
            f"the environment variable {LIMIT} is {limit!r}: give a number of GB above 0, "
            "or unset it"
        )
    return Memory(min(found.gb, allowed), f"{found.where}, limited by {LIMIT}", found.gpu, True)


def ram_gb() -> float:
    """The machine's memory (GB)."""
    return psutil.virtual_memory().total / GB


def rounded_up(size: float) -> float:
    """Bytes as GB to the third decimal, never less than they are: so compared, so recorded."""
    return math.ceil(size / GB * 1000) / 1000


def words(gb: float) -> str:
    """E.g. `138 GB`, `36.9 GB` or `0.004 GB`."""
    digits = 0 if gb >= 100 else 1 if gb >= 1 else 3
    return f"{gb:,.{digits}f} GB"


def _gpus() -> list[Memory]:
    """The GPUs that programs here may use, as the driver tells; [] without one."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        cards = [
            Memory(
                pynvml.nvmlDeviceGetMemoryInfo(handle).total / GB,
                pynvml.nvmlDeviceGetName(handle),
                True,
            )
            for handle in handles
        ]
    except pynvml.NVMLError:  # no driver
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return cards
    numbers = [word.strip() for word in visible.split(",")]
    if all(word.isdigit() for word in numbers):
        return [cards[int(word)] for word in numbers if int(word) < len(cards)]
    return [] if numbers[0] in ("", "-1") else cards  # other names (UUIDs) are not looked up
