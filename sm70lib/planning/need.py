"""What one part of a step needs, and whether that fits into a memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """What a part of a step needs; None stands for what is not known. GB are 10^9 bytes.

    Attributes:
        step: the number of the step, such as `03`.
        part: what the plan calls this part of it.
        device_gb: memory of the GPU, or of the machine if it has no GPU.
        ram_gb: memory of the machine.
        disk_gb: space for what is downloaded and written.
        hours: at most.
        smaller_gb: `device_gb` with smaller batches, which change no result.
        advice: given a size in bytes, says what to change to fit into it.
    """

    step: str
    part: str
    device_gb: float | None = 0.0
    ram_gb: float | None = None
    disk_gb: float | None = None
    hours: float | None = None
    smaller_gb: float | None = None
    advice: Callable[[float], str] | None = None

    def fits(self, there_gb: float, ram_gb: float = math.inf) -> str:
        """Whether this part fits into `there_gb` GB of the device and `ram_gb` GB of RAM.

        Returns:
            `yes`, `no`, `yes*` (in smaller batches only), or "" if what it needs is not known.
        """
        if self.device_gb is None:
            return ""
        if (self.ram_gb or 0) > ram_gb:
            return "no"
        if self.device_gb <= there_gb:
            return "yes"
        if self.smaller_gb is not None and self.smaller_gb <= there_gb:
            return "yes*"
        return "no"
