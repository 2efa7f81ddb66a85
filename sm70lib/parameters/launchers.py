"""What the words of a launcher say: how many processes it starts, and how they share a model."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FSDP = r"(?mi)^distributed_type: *['\"]?FSDP"  # in a file of accelerate


def processes(launcher: str) -> int:
    """The processes that a launcher says it starts; 1 if its words do not say how many.

    The trainer counts them itself, but only after the stages before have been trained.

    Args:
        launcher: The command line of `train_launcher`, e.g. `torchrun --nproc-per-node 8`. For
            `accelerate launch`, its words count before its `--config_file`.
    """
    if "torchrun" in launcher:
        nodes = _number(launcher, "--nnodes")
        return nodes * _number(launcher, "--nproc[-_]per[-_]node")
    written = _number(_settings(launcher), r"(?m)^num_processes:")
    return _number(launcher, "--num[-_]processes", written)


def fsdp_version(launcher: str) -> int | None:
    """The version of FSDP by which processes share a model; None if each has the whole of it."""
    written = _settings(launcher)
    if not re.search(r"--use[-_]fsdp", launcher) and not re.search(FSDP, written):
        return None
    version = _number(written, r"(?m)^ +fsdp_version:")
    return _number(launcher, "--fsdp[-_]version", version)


def _settings(launcher: str) -> str:
    """The text of the `--config_file` that a launcher names; "" if it names none."""
    file = re.search(r"--config[-_]file[ =](\S+)", launcher)
    if not file or not (ROOT / file[1]).is_file():
        return ""
    return (ROOT / file[1]).read_text(encoding="utf-8", errors="replace")


def _number(text: str, option: str, otherwise: int = 1) -> int:
    """The whole number from 1 that a text gives for an option."""
    found = re.search(rf"{option}[ =]([1-9]\d*)(?!\S)", text)
    return int(found[1]) if found else otherwise
