"""What the words of a launcher say: what it runs, in how many processes, sharing what."""

import os
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = "python", "torchrun", "accelerate launch"
OF_PYTHON = re.compile(r"-([bBdEOqsuv]+|[XW][\w=.:]+)")  # options that run no code
# Options by which a launcher would run another program than the module that is put behind it
OTHERS = re.compile(r"--?(no[-_]python|run[-_]path|m|module|c|help|h)(=.*)?")
SCRIPT = re.compile(r"(?i).*\.(py[cwz]?|sh|bash|zip|so)")
FSDP = r"(?mi)^distributed_type: *['\"]?FSDP"  # in a file of accelerate


def runs_a_module(launcher: str) -> bool:
    """Whether a launcher is python, torchrun or accelerate launch, and runs nothing of its own."""
    try:
        first, *rest = shlex.split(launcher)
    except ValueError:  # an open quotation mark, or no word at all
        return False
    if first == "python":
        return all(map(OF_PYTHON.fullmatch, rest))
    if first == "accelerate":
        second, *rest = rest or [""]
        first = f"{first} {second}"
    own = any(OTHERS.fullmatch(word) or SCRIPT.fullmatch(word) for word in rest)
    return first in PROGRAMS and not own


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


def finds_its_file(launcher: str) -> bool:
    """Whether the `--config_file` that a launcher names is there, or it names none."""
    path = _config_file(launcher)
    return path is None or os.path.isfile(path)


def _config_file(launcher: str) -> Path | None:
    """The last `--config_file` that a launcher names, as its own parser reads it; None without one.

    Launchers run in the repository, where a relative path starts.
    """
    try:
        words = shlex.split(launcher)
    except ValueError:  # an open quotation mark, which `runs_a_module` refuses
        return None
    found = None
    for place, word in enumerate(words):
        option, given, value = word.partition("=")
        if option in ("--config_file", "--config-file"):
            found = value if given else "".join(words[place + 1 : place + 2])
    return None if found is None else ROOT / found


def _settings(launcher: str) -> str:
    """The text of the `--config_file` that a launcher names; "" if it names none that is there."""
    path = _config_file(launcher)
    if path is None or not os.path.isfile(path):  # no error of names that are too long
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _number(text: str, option: str, otherwise: int = 1) -> int:
    """The whole number from 1 that a text gives for an option."""
    found = re.search(rf"{option}[ =]([1-9]\d*)(?!\S)", text)
    return int(found[1]) if found else otherwise
