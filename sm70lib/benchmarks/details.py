"""What a benchmark's file says of a question besides what is asked: subject, split and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Details:
    """What is known of a question. Whatever its file does not say is None.

    Files of items hold the details in the order that they have here.

    Attributes:
        step: the exam of a question from the USMLE, such as "step1"; MedQA has "step2&3" too.
        explanation: why the right option is right (MedMCQA), or the abstract's own conclusion
            (PubMedQA).
        subject: the school subject (MMLU, MedMCQA), or the type of a request (XSTest).
        swallowed: whether a reader loses the question that takes the first row for a header (MMLU).
        mc2: 1 for each true answer and 0 for each false one, by the answer's text (TruthfulQA).
        category: the category of TruthfulQA, such as "Health"; the question type of MedXpertQA,
            Reasoning or Understanding.
        test: whether the question belongs to the official test (PubMedQA).
        human: the answer of a person who did not see the conclusion (PubMedQA).
        kind: known, fact or condition: what tuning told of it (generated world; see tiny/world.py).
        relation: what is asked of a condition, such as "drug" (generated world).
        wording: told or new: whether tuning has shown this wording (generated world).
        pair: the number that two reports with exchanged agents have in common (generated world).
        conversation: the messages before the reply, each with role and content (HealthBench).
        points: what a reply earns for each criterion that it meets (HealthBench).
        empty: names of the details that the file has a place for and leaves empty.
    """

    step: str | None = None
    explanation: str | None = None
    subject: str | None = None
    swallowed: bool | None = None
    mc2: Mapping[str, int] | None = None
    category: str | None = None
    test: bool | None = None
    human: str | None = None
    kind: str | None = None
    relation: str | None = None
    wording: str | None = None
    pair: str | None = None
    conversation: Sequence[Mapping[str, str]] | None = None
    points: Sequence[float] | None = None
    empty: frozenset[str] = frozenset()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Details:
        """The details with these names and values; one that is None is `empty`.

        Raises:
            ValueError: there is no detail of that name.
        """
        unknown = [name for name in said if name not in NAMES]
        if unknown:
            raise ValueError(f"no detail of an item is called {unknown[0]!r}")
        return cls(**said, empty=frozenset(name for name in said if said[name] is None))

    def said(self) -> dict[str, Any]:
        """The details that the file says or leaves empty, by name."""
        values = {name: getattr(self, name) for name in NAMES}
        return {
            name: value for name, value in values.items() if value is not None or name in self.empty
        }


NAMES = tuple(each.name for each in fields(Details) if each.name != "empty")
