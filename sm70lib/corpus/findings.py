"""What the audit finds in one source."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sm70lib.sources import Defect, Row

EXAMPLES = 5  # rows that are kept of each finding
KINDS = 4  # of causal labels


PERSONAL = {
    "e-mail address": re.compile(r"@[\w-]+\.\w"),
    "telephone number": re.compile(
        r"(?<![\d./])(\+\d{1,3}[ .-]?)?(\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}\b"
    ),
}
# Most texts lack the hint, and a search for it is quicker.
HINTS = {
    "e-mail address": re.compile("@"),
    "telephone number": re.compile(r"\d[ .-]\d{4}"),
}


@dataclass
class Findings:
    """The findings in one source.

    Attributes:
        rows: number of rows read.
        defects: findings of all checks.
        hits: overlaps with benchmark items (`HITS`).
        labels: counts of causal labels, (original label, label in the source).
        examples: check, reason, row number and beginning of some rows.
    """

    rows: int = 0
    defects: list[Defect] = field(default_factory=list)
    hits: list[dict] = field(default_factory=list)
    labels: np.ndarray = field(default_factory=lambda: np.zeros((KINDS, KINDS), int))
    examples: list[tuple[str, str, int, str]] = field(default_factory=list)

    def note(self, row: Row, reason: str, check: str, dropped: bool) -> None:
        """Adds a finding.

        The first five of a kind become examples, with the beginning of the row. A row that holds
        personal data never does.
        """
        self.defects.append(Defect(row.source, row.file, row.row, reason, check, dropped))
        noted = sum(example[:2] == (check, reason) for example in self.examples)
        if noted >= EXAMPLES or any(personal_in(text_of(row))):
            return
        shown = f"{row.input or row.instruction} -> {row.output}"
        self.examples.append((check, reason, row.row, " ".join(shown.split())[:200]))


def text_of(row: Row) -> str:
    """All fields of a row, one under the other."""
    return "\n".join((row.instruction, row.input, row.output, row.rejected))


def personal_in(text: str) -> Iterator[str]:
    """The kinds of personal data that a text holds: names in PERSONAL."""
    for kind, pattern in PERSONAL.items():
        if HINTS[kind].search(text) and pattern.search(text):
            yield kind
