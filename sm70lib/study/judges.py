"""The lines of `eval_judges`: who reads the replies that a rubric is for.

qwen:   served=http://node7:8000/v1 model=Qwen/Qwen3-235B-A22B-Instruct-2507
gpt:    served=https://api.openai.com/v1 model=gpt-4.1-2025-04-14
house:  served=http://node8:8000/v1 model=house-model family=mistral
dr-lee: readings=../readings/lee.jsonl

A judge may like what its own family writes, so it does not read the replies of a model of its
family. A family is told by a model's name, or stated by `family=`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sm70lib.study.others import Server, server_in
from sm70lib.study.params import StudyError

KEYS = ("served", "model", "family", "key", "at_once", "readings")
HELP = (
    "allowed are served=URL model=NAME [family=NAME] [key=ENVIRONMENT_VARIABLE] [at_once=16], and "
    "readings=FILE for what a person has read"
)
# By the first that occurs in a name. Those that are tuned from others come last.
FAMILIES = {
    "apertus": "apertus",
    "qwen": "qwen|qwq",
    "gemma": "gemma|gemini|palm",
    "mistral": "mistral|mixtral|ministral|magistral|zephyr",
    "gpt": r"gpt|\bo[1345]\b|davinci",
    "claude": "claude",
    "deepseek": "deepseek",
    "olmo": "olmo",
    "eurollm": "eurollm",
    "smollm": "smollm",
    "phi": r"\bphi",
    "llama": "llama|vicuna|alpaca|camel|med42|meditron|sm70|openbio",
}
PHYSICIAN = ""  # the family of a person


@dataclass(frozen=True)
class Judge:
    """One entry of `eval_judges`.

    Attributes:
        name: its name in the study.
        family: the family of its model; PHYSICIAN for a person.
        server: who runs the model; None for a person.
        readings: the file of a person's readings; "" for a model.
    """

    name: str
    family: str
    server: Server | None = None
    readings: str = ""


def family(name: str) -> str | None:
    """The family of a model, by its name; None if the name tells none."""
    found = (each for each, words in FAMILIES.items() if re.search(words, name, re.IGNORECASE))
    return next(found, None)


def all_of(p) -> list[Judge]:
    """The entries of a study's `eval_judges`.

    Raises:
        StudyError: a line is not understood.
    """
    return [read(name, line) for name, line in p.eval_judges.items()]


def read(name: str, line: str) -> Judge:
    """Reads one entry of `eval_judges`.

    Args:
        name: the judge's name in the study.
        line: what the entry says.

    Raises:
        StudyError: the line is not understood, or its model's family cannot be told.
    """
    given = dict(word.partition("=")[::2] for word in line.split())
    wrong = [key for key, value in given.items() if key not in KEYS or not value]
    if wrong:
        raise StudyError(f"eval_judges: {name}: {wrong[0]} is not understood; {HELP}")
    if given.keys() == {"readings"}:
        return Judge(name, PHYSICIAN, readings=given["readings"])
    if "readings" in given or not {"served", "model"} <= given.keys():
        shown = re.sub(r"(?<!\S)key=\S+", "key=...", line)  # it may be the key itself
        raise StudyError(f"eval_judges: {name}: {shown} is not understood; {HELP}")
    known = given.get("family") or family(given["model"])
    if known is None:
        raise StudyError(
            f"eval_judges: {name}: the name {given['model']} does not tell which family of models "
            f"it is of; add family=NAME, such as {', '.join(list(FAMILIES)[:4])}"
        )
    return Judge(name, known.lower(), server_in(given, f"eval_judges: {name}"))
