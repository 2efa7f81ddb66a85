"""The rubric protocol: a model writes the next turn of a conversation, and judges read it.

The format is HealthBench's (arXiv 2505.08775; github:openai/simple-evals, healthbench_eval.py): one
question to the judge for each criterion, which is met or not. The words that we put to a judge are
our own, and it is not told the points. So a score here is comparable with others that were judged
here, by the same judge, and with no printed score of HealthBench.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from sm70lib.benchmarks import RUBRICS, Item
from sm70lib.protocols.layouts import bare_texts
from sm70lib.protocols.protocol import Message, Protocol
from sm70lib.protocols.spoken import without_reasoning

VERSION = 1  # of the words that a judge is asked with, and of the reading of what it says
TASK = """\
Below are a conversation about health, the reply that an assistant gave to it, and one statement
about that reply. Decide whether the statement is true of the reply. Judge the reply alone, not the
messages before it, and judge neither whether the reply is good nor whether the statement names
something good: some statements describe mistakes.

- If the statement has several parts, all of them have to be true.
- Examples in a statement ("such as", "for instance", "including") need not all occur.
- What the reply only hints at does not count.

Answer with one JSON object and nothing else, with two entries: "why", one sentence, and "met",
which is true or false.
"""
FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")


def _conversation(item: Item) -> list[Message]:
    assert item.details.conversation is not None, "every conversation with a rubric has its turns"
    return [dict(turn) for turn in item.details.conversation]


def _as_text(item: Item) -> tuple[str, str]:
    """The conversation as one text, for templates without turns; speakers, where it has several."""
    if not item.context:
        return "", item.question
    return "", f"{item.context}\n\nuser: {item.question}"


def _nothing(reply: str, options: tuple[str, ...]) -> None:
    """A reply chooses none of the criteria; judges read it."""


def asked(conversation: Sequence[Mapping[str, str]], reply: str, criterion: str) -> str:
    """What a judge is asked.

    Args:
        conversation: the messages before the reply.
        reply: what the model wrote.
        criterion: the statement to decide on.
    """
    turns = "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in conversation)
    parts = {"Conversation": turns, "Reply": reply, "Statement": criterion}
    return TASK + "".join(f"\n<{name}>\n{text}\n</{name}>\n" for name, text in parts.items())


def digest(text: str) -> str:
    """The first 16 hex digits of a text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def met(said: str) -> bool | None:
    """What a judge decided: True or False; None if it cannot be read, which is never "not met".

    Read is one JSON object whose `met` is true or false, perhaps in a code fence and after
    reasoning in `<think>` tags. A word such as "yes" is not read: it may belong to anything.
    """
    try:
        verdict = json.loads(FENCE.sub("", without_reasoning(said).strip()))
    except ValueError:
        return None
    value = verdict.get("met") if isinstance(verdict, dict) else None
    return value if isinstance(value, bool) else None


RUBRIC = Protocol(
    "rubric",
    1,
    dict.fromkeys(RUBRICS, _as_text),
    bare_texts,
    bos="always",
    in_template=True,
    dialogue=_conversation,
    reads=_nothing,
    max_new_tokens=1024,
    max_context=8192,
)
