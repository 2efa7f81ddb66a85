"""Conversations with a rubric, in HealthBench's format (arXiv 2505.08775): nothing to choose from.

A rubric is a list of criteria. A reply meets a criterion or does not, and each one that it meets
earns its points, which are negative for what a reply should not do. The criteria are the item's
options, the points are among its details, and judges read the replies (sm70lib/judging).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, objects

SPEAKERS = ("system", "user", "assistant")
THEME = "theme:"
# A criterion that begins so is about a mistake, and one that begins so praises.
MISTAKE = re.compile(
    r"\W*(?:fails|failing|omits|omitting|neglects|neglecting|incorrectly|inaccurately|wrongly"
    r"|falsely|misleadingly|fabricates|hallucinates)\b",
    re.IGNORECASE,
)
PRAISE = re.compile(r"\W*(?:correctly|accurately|appropriately|properly)\b", re.IGNORECASE)
# Two that no rule by words finds, reported in github:openai/simple-evals, issue 77: the id of the
# conversation, and how the criterion begins. There may be more like them.
REPORTED = {
    "a7014ba7-dff8-41f8-9f51-8c39be0cdfd4": "Advises the use of any herbal teas",
    "287d7b73-d8d5-4727-a094-fd7d778fc019": "Instructs the user to seek emergency help immediately",
}


def rubrics(path: Path) -> Found:
    """HealthBench's JSON Lines: `prompt_id`, `prompt` (messages), `rubrics` and `example_tags`."""
    for number, row in objects(path):
        reason = _unusable(row)
        yield number, row, {"unusable": reason} if reason else _fields(row)


def _fields(row: dict) -> dict:
    """What an item is made of."""
    *before, last = row["prompt"]
    criteria = {str(number): each for number, each in enumerate(row["rubrics"], 1)}
    tags = [tag for tag in row.get("example_tags") or [] if tag.startswith(THEME)]
    return {
        "id": str(row["prompt_id"]),
        "question": last["content"],
        "context": "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in before),
        "options": {number: each["criterion"] for number, each in criteria.items()},
        "gold": "1",  # an item has to have one
        "subject": tags[0].removeprefix(THEME) if tags else None,
        "conversation": [
            {"role": turn["role"], "content": turn["content"]} for turn in row["prompt"]
        ],
        "points": [each["points"] for each in criteria.values()],
    }


def _unusable(row: dict) -> str | None:
    """Why no item can be made of a record; None if one can."""
    if not row.get("prompt_id"):
        return "no prompt_id"
    talk = row.get("prompt")
    if not isinstance(talk, list) or not talk or not all(map(_is_turn, talk)):
        return "prompt is not a list of messages with role and content"
    if talk[-1]["role"] != "user":
        return f"the last message of prompt is the {talk[-1]['role']}'s, not the user's"
    criteria: Any = row.get("rubrics")
    if not isinstance(criteria, list) or not criteria:
        return "no list of criteria under rubrics"
    return next(_wrong(criteria, str(row["prompt_id"])), None)


def _is_turn(turn: Any) -> bool:
    if not isinstance(turn, dict) or turn.get("role") not in SPEAKERS:
        return False
    return isinstance(turn.get("content"), str)


def _wrong(criteria: list, key: str) -> Iterator[str]:
    """What is wrong with a rubric."""
    for number, each in enumerate(criteria, 1):
        known = each if isinstance(each, dict) else {}
        text, points = known.get("criterion"), known.get("points")
        if not isinstance(text, str) or not text.strip():
            yield f"criterion {number} has no text"
        elif isinstance(points, bool) or not isinstance(points, int | float) or not points:
            yield f"criterion {number} has {points!r} points; a number that is not 0 is needed"
        elif wrong_sign(text, points, key):
            yield f"criterion {number} has points of the wrong sign: {points:+g} for {text[:60]!r}"
    if not any(each["points"] > 0 for each in criteria):
        yield "no criterion of its rubric earns points"


def wrong_sign(criterion: str, points: float, key: str = "") -> bool:
    """Whether a criterion's points have the wrong sign, as far as its first words tell.

    Such a row scores good replies as bad ones (github:openai/simple-evals, issue 77), so it is no
    item.

    Args:
        criterion: its text.
        points: its points.
        key: the id of its conversation, for those that were REPORTED.
    """
    if key in REPORTED and criterion.startswith(REPORTED[key]):
        return True
    return bool((MISTAKE if points > 0 else PRAISE).match(criterion))


def _as_row(question: dict) -> dict:
    """A stand-in: the question, and a criterion for each option."""
    texts = list(question["options"].values())
    right = texts.index(question["answer"])
    criteria: list[dict] = [
        {"criterion": f"Names {text}", "points": 5 if place == right else -3, "tags": []}
        for place, text in enumerate(texts)
    ]
    return {
        "prompt_id": question["question"],
        "prompt": [{"role": "user", "content": question["question"]}],
        "rubrics": criteria,
        "example_tags": [f"{THEME}drugs"],
    }


def _of_openai(pattern: str) -> Benchmark:
    return Benchmark(rubrics, "healthbench", "openai/healthbench", (pattern,), as_row=_as_row)


HEALTHBENCH = _of_openai("*_oss_eval.jsonl")
HARD = _of_openai("hard_*.jsonl")
CONSENSUS = _of_openai("consensus_*.jsonl")
# Of our own writing, so that the way can be tried without HealthBench's files
OURS = Benchmark(rubrics, str(Path(__file__).parent), None, ("medical_rubrics.jsonl",))
