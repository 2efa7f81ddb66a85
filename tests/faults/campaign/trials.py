"""What a trial is, how it can end, and how it is judged."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Ended

SURVIVED = "survived"
SENTENCE = "sentence"
SILENT = "silent"
TRACEBACK = "traceback"
LOST = "lost"
OUTSIDE = "written outside"
CODE = "code run"
UNJUDGED = "not judged"
# How a trial can end, and what that means
OUTCOMES = {
    SURVIVED: "the result is that of an undisturbed run",
    SENTENCE: "one clear sentence and an exit code that is not 0; the same command goes on later",
    SILENT: "exit code 0, and the result is another one",
    TRACEBACK: "an error that no user can read, or no end",
    LOST: "something that was finished is gone or was made again",
    OUTSIDE: "a file was written outside the study's folder",
    CODE: "code that came with somebody's file was run",
    UNJUDGED: "the campaign itself failed",
}
GOOD = (SURVIVED, SENTENCE)
# Words that begin what a command says when it ends early
BEGINNINGS = r"(?m)^(error: \S|\d\d_\w+ failed in cell|\d\d_\w+: stopped by hand|stopped: nothing)"
VARYING = ("seconds", "runtime")  # in records of predictions and of training


@dataclass(frozen=True)
class Trial:
    """How a trial ended.

    Attributes:
        outcome: One of OUTCOMES.
        seconds: Of the processor, until the command after the fault had made everything whole.
        cost: What the fault cost, in the unit of its kind: steps, items, rows.
        note: What happened, in a line.
    """

    outcome: str
    seconds: float = 0.0
    cost: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of trial: one line of the catalogue.

    Attributes:
        name: Its name, by which it is chosen and drawn.
        attacked: What is attacked, and how.
        judged: What the result is compared with.
        count: How many trials the whole campaign makes.
        run: Makes one trial with its own random numbers in its own place.
        cost: What `Trial.cost` counts; "" if nothing.
    """

    name: str
    attacked: str
    judged: str
    count: int
    run: Callable[[random.Random, Place], Trial]
    cost: str = ""


def is_traceback(said: str) -> bool:
    """Whether a text holds Python's account of an error."""
    return "Traceback (most recent call last)" in said


def is_sentence(ended: Ended) -> bool:
    """Whether a process that failed said why as a user can read it."""
    said = re.search(BEGINNINGS, ended.said)
    return ended.code not in (0, None) and said is not None and not is_traceback(ended.said)


def after(first: Ended, again: Ended, differing: Iterable[str], killed: bool = False) -> Trial:
    """Judges a fault, and the same command after it.

    Args:
        first: The command under the fault.
        again: The command after it.
        differing: What of the result differs from an undisturbed run's.
        killed: Whether the fault was a kill, so that the command could not say anything.
    """
    differing = sorted(differing)
    if again.code == 0 and differing:
        return Trial(SILENT, again.seconds, note=f"differs: {', '.join(differing)[:200]}")
    if again.code != 0:
        return Trial(TRACEBACK, again.seconds, note=f"does not go on: {last_words(again)}")
    if killed or first.code == 0:
        return Trial(SURVIVED, again.seconds)
    if is_sentence(first):
        return Trial(SENTENCE, again.seconds, note=last_words(first))
    return Trial(TRACEBACK, again.seconds, note=last_words(first))


def last_words(ended: Ended) -> str:
    """The end of what a process said, in a line."""
    lines = [line.strip() for line in ended.said.splitlines() if line.strip()]
    return f"exit code {ended.code}: {' | '.join(lines[-3:])[-300:]}"


def content(folder: Path, tops: Iterable[str], leave: str = r"(?!)") -> dict[str, str]:
    """What a study holds: a digest of each file, by its name below the folder.

    Times are left out of lines of predictions and of training, and lists of adapted layers, which
    PEFT writes in random order, are sorted.

    Args:
        folder: outputs/<study>.
        tops: Patterns of files and folders below it.
        leave: A regular expression of names that are left out.
    """
    found = {}
    for top in tops:
        for path in sorted(folder.glob(top)):
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in (file for file in files if file.is_file()):
                name = file.relative_to(folder).as_posix()
                if not re.search(leave, name):
                    found[name] = hashlib.sha256(_steady(file)).hexdigest()
    return found


def _steady(file: Path) -> bytes:
    """The content of a file without what differs from run to run."""
    content = file.read_bytes()
    try:
        if file.suffix == ".jsonl":
            return "\n".join(_line(line) for line in content.splitlines()).encode()
        if file.name == "adapter_config.json":
            return json.dumps(_sorted(json.loads(content)), sort_keys=True).encode()
    except ValueError:
        return content
    return content


def _line(line: bytes) -> str:
    record = json.loads(line)
    if not isinstance(record, dict):
        return json.dumps(record)
    return json.dumps({name: record[name] for name in sorted(record) if name not in VARYING})


def _sorted(about: dict[str, Any]) -> dict[str, Any]:
    """What an adapter's configuration says, but for the name of its base, which holds a folder."""
    return {
        name: sorted(value, key=str) if isinstance(value, list) else value
        for name, value in about.items()
        if name != "base_model_name_or_path"
    }


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names whose content differs, or that only one of the two has."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
