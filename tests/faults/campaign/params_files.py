"""Broken study files: each is refused in a sentence, or is read as a person reads it."""

from __future__ import annotations

import random
import re
from typing import Any

import yaml

from sm70lib import __main__ as command_line
from sm70lib.study import params
from sm70lib.study.params import StudyError
from sm70lib.untrusted import yaml_text
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Forked
from tests.faults.campaign.trials import (
    OUTSIDE,
    SENTENCE,
    SILENT,
    SURVIVED,
    TRACEBACK,
    Trial,
    is_sentence,
    last_words,
)
from tests.unit.study.test_broken import broken

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
TEXTS = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # every value is the text that stands there
NOTHING = ("", "~", "null")
LONGEST = 450  # characters of one part of a sentence
OWN_FOLDER = re.compile(r"[a-z0-9][a-z0-9._-]*")


def loaded(draw: random.Random, place: Place) -> Trial:
    """Loads a file with one to three faults in this process."""
    file = place.folder / "mine.yml"
    text = broken(draw)
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    try:
        study = params.load(file).model_dump()
    except StudyError as error:
        return _refused(str(error), str(file))
    except Exception as error:  # whatever comes is the trial's result
        return Trial(TRACEBACK, note=f"{type(error).__name__}: {error}"[:200])
    if not OWN_FOLDER.fullmatch(study["study"]):
        return Trial(OUTSIDE, note=f"the study is called {study['study']!r:.80}")
    written = yaml.load(text, TEXTS)
    misread = [name for name in written if not _as_written(study.get(name), written[name])]
    misread = [name for name in misread if name in study]
    misread += _twice(text)
    if misread:
        return Trial(SILENT, note=f"read otherwise than written: {', '.join(misread)[:200]}")
    return Trial(SURVIVED)


def _refused(said: str, file: str) -> Trial:
    """Judges the sentence of a refusal: one line, printable, short, and it names the file."""
    longest = max(map(len, said.removeprefix(file).split("; ")))
    if not said.startswith(file) or "\n" in said or not said.isprintable():
        return Trial(TRACEBACK, note=f"no sentence: {said!r:.200}")
    if longest > LONGEST and "lacks" not in said:
        return Trial(TRACEBACK, note=f"a sentence of {longest} characters: {said:.100}")
    return Trial(SENTENCE)


def _as_written(value: Any, text: Any) -> bool:
    """Whether a value is what its text says to a person."""
    if isinstance(value, dict):
        return isinstance(text, dict) and all(
            _as_written(value.get(name, value.get(_number(name))), text[name]) for name in text
        )
    if isinstance(value, list):
        return isinstance(text, list) and all(map(_as_written, value, text))
    if isinstance(text, (dict, list)):
        return False
    if value is None:
        return text.lower() in NOTHING
    if isinstance(value, bool):
        return WORDS.get(text.lower()) is value
    if isinstance(value, int | float):
        return _number(text) == value
    return value == text


def _number(text: str) -> float | None:
    """The number that a text of digits, a point and an exponent is; None for any other."""
    if not re.fullmatch(r"[-+]?(0|[1-9][\d_]*|\d*\.\d*|\d[\d_]*)([.]\d*)?([eE][-+]?\d+)?", text):
        return None
    if re.fullmatch(r"[-+]?0\d+", text):  # YAML reads it as an octal number
        return None
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return None


def _twice(text: str) -> list[str]:
    """Names that stand at the beginning of two lines."""
    names = re.findall(r"(?m)^(\w+):", text)
    return sorted({name for name in names if names.count(name) > 1})


def by_command(draw: random.Random, place: Place) -> Trial:
    """Gives a broken file to a command that reads it."""
    file = place.folder / "mine.yml"
    file.write_text(broken(draw), encoding="utf-8", errors="surrogateescape")
    words = draw.choice((["run", str(file), "--list"], ["results", str(file)]))
    outputs = {"SM70_OUTPUTS": str(place.folder / "outputs")}
    log = place.folder / "log.txt"
    ended = Forked(command_line.main, words, log=log, environment=outputs).end()
    if is_sentence(ended):
        return Trial(SENTENCE, ended.seconds)
    if ended.code != 0:
        return Trial(TRACEBACK, ended.seconds, note=last_words(ended))
    return Trial(SURVIVED, ended.seconds)


def bombs(draw: random.Random, place: Place) -> Trial:
    """Loads what unfolds to far more than its size, or makes a reader slow."""
    count = draw.randint(6_000, 900_000)
    texts = {
        "keys": "".join(f"k{number}: 1\n" for number in range(min(count, 60_000))),
        "depth": "seed: " + "[" * count,
        "text": "study: " + "x" * count,
        "aliases": _unfolding(draw.randint(6, 40), draw.randint(4, 9)),
        "directives": "".join(f"%TAG !{n}! x\n" for n in range(count // 20)) + "---\nseed: 1",
        "list": f"train_seeds: [{', '.join(['1'] * min(count, 300_000))}]",
    }
    name = draw.choice(sorted(texts))
    (place.folder / "mine.yml").write_text(texts[name])
    log = place.folder / "log.txt"
    ended = Forked(params.load, place.folder / "mine.yml", log=log).end(20)
    if is_sentence(ended) and ended.seconds < 5:
        return Trial(SENTENCE, ended.seconds)
    return Trial(TRACEBACK, ended.seconds, note=f"{name}: {last_words(ended)}")


def _unfolding(levels: int, times: int) -> str:
    """Aliases of aliases: a few lines that stand for `times` to the power of `levels` values."""
    lines = [f"a0: &a0 [{', '.join(['x'] * times)}]"]
    for level in range(1, levels):
        inner = ", ".join([f"*a{level - 1}"] * times)
        lines.append(f"a{level}: &a{level} [{inner}]")
    text = "\n".join(lines)
    assert len(text) < yaml_text.LARGEST
    return text
