"""Models on servers: what can be known of them before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sm70lib.asking.runs import planned
from sm70lib.serving import keys
from sm70lib.steps.keys import EVALUATION, outputs
from sm70lib.study.others import all_of


def require_keys(p, running: Sequence[str]) -> None:
    """Checks that the keys of all servers that models will be asked at are there.

    Args:
        p: the study's parameters.
        running: the steps that will run, in order, 04 among them.

    Raises:
        StudyError: a line of `eval_models` names a variable that is not set.
    """
    for name, other in all_of(p).items():
        if other.server is None:
            continue
        folder = outputs() / p.study / "predictions" / name
        asked = [run for run in planned(p) if other.source or run.protocol.reads]
        if are_asked(running, (folder / f"{run.name}.jsonl" for run in asked)):
            keys.require(other.server, f"eval_models: {name}")


def are_asked(running: Sequence[str], answers: Iterable[Path]) -> bool:
    """Whether 04 may have anything to ask; a study with all answers goes on without servers.

    What steps before 04 make anew may be asked anew.

    Args:
        running: the steps that will run, in order.
        answers: the files that will hold all answers.
    """
    return running[0] != EVALUATION or not all(path.exists() for path in answers)
