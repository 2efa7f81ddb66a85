"""The audit of the training rows: what is doubled, personal, mislabelled, or stands in a benchmark."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from sm70lib import sources
from sm70lib.benchmarks import Item
from sm70lib.corpus.overlap import HITS, HOW, Overlap
from sm70lib.sources import Defect, Row
from sm70lib.sources.causal import CAUSAL, REFERENCE, kind_of, reference
from sm70lib.study.params import StudyError

CHECKS = [
    "read",
    "duplicate",
    "personal",
    "label",
    "leak",
    "length",
]  # in this order; the first one counts
PERSONAL = {
    "e-mail address": re.compile(r"@[\w-]+\.\w"),
    "telephone number": re.compile(
        r"(?<![\d./])(\+\d{1,3}[ .-]?)?(\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}\b"
    ),
}
HINTS = {
    "e-mail address": re.compile("@"),
    "telephone number": re.compile(r"\d[ .-]\d{4}"),
}  # quickly looked for


def _text(row: Row) -> str:
    return "\n".join((row.instruction, row.input, row.output, row.rejected))


def _personal(text: str) -> Iterator[str]:
    """The kinds of personal data in a text; most texts lack the hint, which is quicker to look for."""
    return (
        kind
        for kind, pattern in PERSONAL.items()
        if HINTS[kind].search(text) and pattern.search(text)
    )


@dataclass
class Findings:
    """What was found in one source: rows read, findings, overlaps, causal labels (original x ours), examples."""

    rows: int = 0
    defects: list[Defect] = field(default_factory=list)
    hits: list[dict] = field(default_factory=list)
    labels: np.ndarray = field(default_factory=lambda: np.zeros((4, 4), int))
    examples: list[tuple[str, str, int, str]] = field(
        default_factory=list
    )  # check, reason, row, how it begins

    def note(self, row: Row, reason: str, check: str, dropped: bool) -> None:
        """Adds a finding; the first five of a kind with the row's beginning, unless personal data stand in the row."""
        self.defects.append(Defect(row.source, row.file, row.row, reason, check, dropped))
        if sum(example[:2] == (check, reason) for example in self.examples) < 5 and not any(
            _personal(_text(row))
        ):
            begins = " ".join(f"{row.input or row.instruction} -> {row.output}".split())[:200]
            self.examples.append((check, reason, row.row, begins))


class Checks:
    """The checks that every row of every source streams through; it remembers the rows it has seen.

    `policies`: report, drop or fail for duplicate, personal, label and leak; label may also be repair.
    """

    def __init__(self, items: list[Item], policies: dict[str, str], root: Path):
        self.policies, self.index, self.seen = (
            policies,
            Overlap(items),
            {},
        )  # a dict, as it keeps its order
        self.truth, self.says = reference(Path(root)), {}
        if (
            policies["label"] == "repair" and self.truth
        ):  # a repaired row speaks as the source itself does
            said = sorted({row.output for row in sources.read(CAUSAL, root, [])})
            self.says = {kind_of(text): text for text in said if kind_of(text) is not None}

    def screen(self, rows: Iterable[Row], found: Findings) -> Iterator[Row]:
        """The rows that no policy drops, labels repaired; StudyError at what must fail."""
        rows = iter(rows)
        while batch := list(islice(rows, 1000)):
            found.rows += len(batch)
            found.hits += (hits := self.index.find(batch))
            leaks = defaultdict(set)
            for hit in hits:
                leaks[hit["file"], hit["row"]].add(hit["benchmark"])
            for row in batch:
                if kept := self._kept(row, found, leaks[row.file, row.row]):
                    yield kept

    def _kept(self, row: Row, found: Findings, leaks: set[str]) -> Row | None:
        original = self.truth.get(row.input.strip()) if row.source == CAUSAL else None
        if row.source == CAUSAL and self.policies["label"] == "repair" and not self.truth:
            raise StudyError(
                f"audit_label is repair, but nothing says the right labels of {CAUSAL}: put the original "
                f"annotation (sentence, label) into {REFERENCE} in data_root, or choose drop or report."
            )
        if original is not None and (kind := kind_of(row.output)) is not None:
            found.labels[original, kind] += 1
        keep = row
        for check, reason in self._findings(row, original, leaks):
            policy = self.policies[check]
            if policy == "fail":
                raise StudyError(
                    f"audit_{check} is fail; {row.file} has in row {row.row}: {reason}; "
                    "set it to drop or report, or take the row out."
                )
            if policy == "repair" and keep and original in self.says:
                keep = replace(keep, output=self.says[original])
            dropped = policy == "drop" or policy == "repair" and original not in self.says
            found.note(row, reason, check, dropped)
            keep = None if dropped else keep
        return keep

    def _findings(
        self, row: Row, original: int | None, leaks: set[str]
    ) -> Iterator[tuple[str, str]]:
        text = _text(row)
        same = hashlib.blake2b(
            " ".join(text.casefold().split()).encode(errors="replace"), digest_size=8
        ).digest()
        if (same := int.from_bytes(same)) in self.seen:
            yield "duplicate", "same text as an earlier row"
        self.seen[same] = None
        yield from (("personal", kind) for kind in _personal(text))
        if row.source == CAUSAL and kind_of(row.output) is None:
            yield "label", "label of no known kind"
        elif original is not None and original != kind_of(row.output):
            yield "label", "label contradicts the reference"
        if leaks:
            yield "leak", f"stands in {', '.join(sorted(leaks))}"


@dataclass
class Audit:
    """The findings of all sources, and the tables they add up to."""

    sizes: Counter  # items of each benchmark
    found: dict[str, Findings] = field(default_factory=dict)  # by source

    @property
    def defects(self) -> list[Defect]:
        """Every finding, source after source."""
        return [defect for findings in self.found.values() for defect in findings.defects]

    def hits(self) -> pd.DataFrame:
        """Every overlap of a row with a field of an item (`HITS`)."""
        return pd.DataFrame(
            [
                hit | {"source": name}
                for name, findings in self.found.items()
                for hit in findings.hits
            ],
            columns=HITS,
        )

    def examples(self) -> pd.DataFrame:
        """Up to five rows of each finding, as they begin; rows with personal data are left out."""
        rows = [
            (check, reason, name, row, text)
            for name, findings in self.found.items()
            for check, reason, row, text in findings.examples
        ]
        return pd.DataFrame(rows, columns=["check", "reason", "source", "row", "begins"])

    def funnel(self) -> pd.DataFrame:
        """By source: rows in its files, rows dropped by each check (the first that drops a row), rows kept."""
        rows = []
        for name, findings in self.found.items():
            first = {
                (defect.file, defect.row): defect.check
                for defect in reversed(findings.defects)
                if defect.dropped
            }
            dropped = Counter(first.values())
            counts = {check: dropped[check] for check in CHECKS}
            read = findings.rows + dropped["read"]
            rows.append({"source": name, "rows": read, **counts, "kept": read - dropped.total()})
        return pd.DataFrame(rows).set_index("source")

    def contamination(self) -> pd.DataFrame:
        """By source and benchmark: its items, and how many of them stand in the source in which sense."""
        hits = self.hits().astype(dict.fromkeys(HOW, bool)).assign(any=True)
        by = ["source", "benchmark"]
        items = hits.groupby([*by, "item_id"])[[*HOW, "any"]].any().groupby(by).sum()
        table = items.reindex(
            pd.MultiIndex.from_product([list(self.found), self.sizes], names=by), fill_value=0
        )
        table.insert(0, "items", [self.sizes[benchmark] for _, benchmark in table.index])
        return table.reset_index()

    def label_verdict(self) -> dict:
        """Share of causal labels that agree with the reference as they are, and under the best renaming."""
        labels = sum((findings.labels for findings in self.found.values()), np.zeros((4, 4), int))
        if not (n := labels.sum()):
            return {
                "checked": 0,
                "verdict": "unverifiable" if CAUSAL in self.found else "not among the sources",
            }
        agree, renamed = np.trace(labels) / n, labels[linear_sum_assignment(-labels)].sum() / n
        verdict = "right" if agree >= 0.95 else "permuted" if renamed >= 0.95 else "unreliable"
        return {"checked": int(n), "agree": agree, "agree_renamed": renamed, "verdict": verdict}
