"""The command in front of a module of ours, which `train_launcher` and `eval_launcher` give."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from sm70lib.parameters.launchers import PROGRAMS, runs_a_module
from sm70lib.study.params import StudyError

ALLOWED = f"give {', '.join(PROGRAMS)}, with options alone"


def launcher(line: str) -> list[str]:
    """The command in front of `-m sm70lib.training.train`.

    `python` means this interpreter. Any other program is looked for beside this interpreter first.

    Args:
        line: The command line, such as `torchrun --nproc_per_node 2`.

    Raises:
        StudyError: If there is no such program, or it would run anything else than the module.
    """
    if not runs_a_module(line):
        raise StudyError(f"launcher {line!r:.200} is not run; {ALLOWED}")
    first, *rest = shlex.split(line)
    if first == "python":
        return [sys.executable, *rest]
    _require_module(line, first, rest)
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(first, path=places)
    if not program:
        raise StudyError(f"launcher {line!r:.200}: there is no program {first}; {ALLOWED}")
    return [program, *rest]


def _require_module(line: str, first: str, rest: list[str]) -> None:
    """Raises StudyError unless the launcher's own parser finds nothing to run but the module."""
    if first == "torchrun":
        from torch.distributed.run import get_args_parser as parser

        words = rest
    else:
        from accelerate.commands.launch import launch_command_parser as parser

        words = rest[1:]  # behind `launch`
    try:
        given = parser().parse_args([*words, "-m", "module"])
    except SystemExit:  # the parser has said why on stderr
        raise StudyError(f"{first} does not understand {line!r:.200}; {ALLOWED}") from None
    if given.training_script != "module" or not given.module or given.no_python:
        raise StudyError(
            f"launcher {line!r:.200} would run {given.training_script}, and not the module of this "
            f"library; {ALLOWED}"
        )
