"""Runs a module with accelerate's FSDP on CPU processes: accelerate 1.15 knows it on GPUs alone.

A launcher names this file in front of the module: `accelerate launch ... tests/chain/on_cpu.py`.
Without it, accelerate silently trains by DDP where there is no GPU.
"""

import runpy
import sys

import torch
from accelerate import DistributedType, PartialState

_prepare = PartialState.__init__


def _as_if_on_gpus(self, *args, **kwargs):
    _prepare(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU
        self.device = torch.device("cpu")  # without a number, as FSDP wants it


if __name__ == "__main__":
    PartialState.__init__ = _as_if_on_gpus
    module, *sys.argv[1:] = sys.argv[2:]  # behind -m
    runpy.run_module(module, run_name="__main__", alter_sys=True)
