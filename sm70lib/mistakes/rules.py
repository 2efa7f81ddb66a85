"""Rules that say what is special about a question or about an answer to it.

To add a rule, write a function of a Case and add one line to RULES.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sm70lib.analysis import slices
from sm70lib.analysis.frames import RUN
from sm70lib.benchmarks import SAFETY, Item

NEAR = float(np.log(2))  # nats: one option is at most twice as likely as the other
LONG = 150  # words
FEWEST_VALUES = 2  # laboratory values in a question
LETTERS = 4  # of a word that may be shared; shorter ones are mostly "the" and "with"

_NEGATED = re.compile(  # "not being affected" and "whether or not" are no such questions
    r"\b(?:except|cannot|least|false|incorrect|untrue|unlikely|contraindicated)\b|n't\b"
    r"|\b(?:is|are|was|were|do|does|did|can|could|will|would|should|may|has|have)(?: \w+)? not\b",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.?!:])\s+(?=\S)")
_VALUE = re.compile(
    r"\d\s?%?\s?(?:[munpμµ]?g|m?Eq|[mµμn]?mol|m?Osm|[mµμ]?I?U|units)\s?/\s?(?:[dmµμ]?L|kg|h|hr)\b"
    r"|\d\s?/\s?(?:mm3|mm\^3|mm³|[µμ]L|mcL)"
    r"|\d\s?(?:mm/h|fL|×\s?10|x\s?10)",
    re.I,
)
_NUMBER = re.compile(r"\s*(?:about|approximately|[<>≤≥~$])?\s*[-+−]?(?:\d|\.\d)", re.I)
_WORD = re.compile(rf"[a-z]{{{LETTERS},}}")


class Case(NamedTuple):
    """A question with one answer to it.

    Attributes:
        item: the question as it was asked.
        choice: the position of the chosen option, from 0; None if the reply could not be read.
        gold: the position of the right option.
        scores: the log-likelihood of each option (nats); empty for a written reply.
        favourite: the position that the model chooses most often in this run; None without one.
    """

    item: Item
    choice: int | None
    gold: int
    scores: tuple[float, ...] = ()
    favourite: int | None = None


class Rule(NamedTuple):
    """One line of the catalogue.

    Attributes:
        name: what tables and pages call it.
        what: when it holds, in words.
        holds: whether it holds for a case.
        answered: whether it depends on the answer; else it depends on the question alone.
    """

    name: str
    what: str
    holds: Callable[[Case], bool]
    answered: bool = False


def near_miss(case: Case) -> bool:
    """Whether the right option and its best rival are nearly equally likely."""
    if len(case.scores) != len(case.item.options) or len(case.scores) < 2:
        return False
    rivals = [score for place, score in enumerate(case.scores) if place != case.gold]
    return bool(abs(case.scores[case.gold] - max(rivals)) < NEAR)


def position_bias(case: Case) -> bool:
    """Whether the choice stands where this model chooses most often."""
    return case.choice is not None and case.choice == case.favourite


def negated_stem(case: Case) -> bool:
    """Whether the last sentence of the question turns it round, as "all of these except" does."""
    return _NEGATED.search(_SENTENCE.split(case.item.question.strip())[-1]) is not None


def calculation(case: Case) -> bool:
    """Whether every option is a number, and the question holds two numbers to compute it from."""
    numbers = re.findall(r"\d+(?:[.,]\d+)*", case.item.question)
    return len(numbers) > 1 and all(map(_NUMBER.match, case.item.options))


def lab_values(case: Case) -> bool:
    """Whether the question states several laboratory values, each with its unit."""
    return len(_VALUE.findall(_text(case.item))) >= FEWEST_VALUES


def long_stem(case: Case) -> bool:
    """Whether question and context have more than LONG words."""
    return slices.words(case.item) > LONG


def shared_words(case: Case) -> bool:
    """Whether a wrong option has more words in common with the question than the right one."""
    stem = set(_WORD.findall(_text(case.item).lower()))
    shared = [len(stem & set(_WORD.findall(option.lower()))) for option in case.item.options]
    return max(shared) > shared[case.gold]


def unread(case: Case) -> bool:
    """Whether the reply could not be read as an answer."""
    return case.choice is None


RULES = (
    Rule("near miss", "right option and best rival within a factor of 2", near_miss, True),
    Rule("position bias", "the choice stands where this model chooses most", position_bias, True),
    Rule("negated stem", 'asked with "not", "except" or "least"', negated_stem),
    Rule("calculation", "all options are numbers, to be computed", calculation),
    Rule("lab values", f"at least {FEWEST_VALUES} laboratory values with units", lab_values),
    Rule("long stem", f"more than {LONG} words", long_stem),
    Rule("shared words", "a wrong option shares more words with the question", shared_words),
    Rule("unread", "the reply could not be read", unread, True),
)
# The others hold because of the answer, so they decide the accuracy themselves
OF_QUESTIONS = [rule.name for rule in RULES if not rule.answered]


def marks(answers: pd.DataFrame) -> pd.DataFrame:
    """Which rules hold for each answer.

    Args:
        answers: rows of `frames.load`.

    Returns:
        True or False, with the index of `answers` and a column for each rule. Requests to comply
        with or to refuse are no exam questions: of the rules, only `unread` is about them.
    """
    cases = _cases(answers)
    of_items = [rule for rule in RULES if not rule.answered]
    known: dict[int, list[bool]] = {}  # the same question is asked of several models
    for case in cases:
        if id(case.item) not in known:
            known[id(case.item)] = [rule.holds(case) for rule in of_items]
    found = {}
    for rule in RULES:
        if rule.answered:
            found[rule.name] = [rule.holds(case) for case in cases]
        else:
            place = of_items.index(rule)
            found[rule.name] = [known[id(case.item)][place] for case in cases]
    table = pd.DataFrame(found, index=answers.index, dtype=bool)
    table.loc[answers["benchmark"].isin(SAFETY), table.columns != "unread"] = False
    return table


def _cases(answers: pd.DataFrame) -> list[Case]:
    """Every answer as a case, in order."""
    favourites = answers.groupby(RUN)["choice"].transform(_commonest)
    columns = (answers[name] for name in ("item", "choice", "gold", "loglikelihoods"))
    return [_case(*row) for row in zip(*columns, favourites)]


def _commonest(choices: pd.Series) -> float:
    known = choices.dropna()
    return known.mode()[0] if len(known) else float("nan")


def _case(item: Item, choice: Any, gold: int, scores: Any, favourite: Any) -> Case:
    return Case(
        item,
        None if pd.isna(choice) else int(choice),
        int(gold),
        tuple(scores) if isinstance(scores, list) else (),
        None if pd.isna(favourite) else int(favourite),
    )


def _text(item: Item) -> str:
    return f"{item.context} {item.question}" if item.context else item.question
