"""What the audit finds in one source."""

from dataclasses import dataclass, field

import numpy as np

from sm70lib.corpus import personal
from sm70lib.sources import Defect, Row

EXAMPLES = 5  # rows that are kept of each finding
KINDS = 4  # of causal labels


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
        if noted >= EXAMPLES or any(personal.kinds_in(text_of(row))):
            return
        shown = f"{row.input or row.instruction} -> {row.output}"
        self.examples.append((check, reason, row.row, " ".join(shown.split())[:200]))


def text_of(row: Row) -> str:
    """All fields of a row, one under the other."""
    return "\n".join((row.instruction, row.input, row.output, row.rejected))
