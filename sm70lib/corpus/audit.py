"""The audit of the training rows: duplicates, personal data, wrong labels, benchmark items."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib import sources
from sm70lib.benchmarks import Item
from sm70lib.corpus.findings import KINDS, Findings, personal_in, text_of
from sm70lib.corpus.overlap import HITS, HOW, Overlap
from sm70lib.sources import Defect, Row
from sm70lib.sources.causal import CAUSAL, REFERENCE, kind_of, reference
from sm70lib.study.params import StudyError

# Rows go through the checks in this order, and the first that drops a row is the one that counts.
CHECKS = ["read", "duplicate", "personal", "label", "leak", "length"]
BATCH = 1000  # rows that are compared with the benchmarks at one time
SAME = "same text as an earlier row"
CLEAR = 0.95  # share of labels that must agree for a verdict


class Checks:
    """The checks that every row of every source goes through; it remembers the rows it has seen.

    Args:
        items: the benchmark items that rows are compared with.
        policies: report, drop or fail, for duplicate, personal, label and leak. For label there is
            also repair.
        root: the study's data folder, where the reference of the causal labels may be.
    """

    def __init__(self, items: list[Item], policies: dict[str, str], root: Path):
        self.policies, self.items, self.index = policies, items, Overlap(items)
        self.seen: dict[int, None] = {}  # digests of rows; a dict, because it keeps its order
        self.truth = reference(Path(root))
        self.wordings: dict[int, str] = {}
        if policies["label"] == "repair" and self.truth:
            self.wordings = _label_wordings(root)

    def screen(self, rows: Iterable[Row], found: Findings) -> Iterator[Row]:
        """Yields the rows that no policy drops, with labels repaired, and notes all findings.

        Raises:
            StudyError: a row has a finding whose policy is fail, or labels are to be repaired and
                there is no reference.
        """
        rows = iter(rows)
        while batch := list(islice(rows, BATCH)):
            found.rows += len(batch)
            hits = self.index.find(batch)
            found.hits += hits
            leaks = defaultdict(set)
            for hit in hits:
                leaks[hit["file"], hit["row"]].add(hit["benchmark"])
            for row in batch:
                kept = self._kept(row, found, leaks[row.file, row.row])
                if kept is not None:
                    yield kept

    def _kept(self, row: Row, found: Findings, leaks: set[str]) -> Row | None:
        """The row as it goes into the training set; None if a policy drops it."""
        row = replace(row, digest=_digest(text_of(row)))
        original = self._original(row)
        if original is not None:
            label = kind_of(row.output)
            if label is not None:
                found.labels[original, label] += 1
        kept: Row | None = row
        for check, reason in self._findings(row, original, leaks):
            policy = self.policies[check]
            if policy == "fail":
                raise StudyError(
                    f"audit_{check} is fail; {row.file} has in row {row.row}: {reason}; "
                    "set it to drop or report, or take the row out."
                )
            wording = None if original is None else self.wordings.get(original)
            dropped = policy == "drop" or (policy == "repair" and wording is None)
            found.note(row, reason, check, dropped)
            if dropped:
                kept = None
            elif policy == "repair" and kept is not None and wording is not None:
                kept = replace(kept, output=wording)
        return kept

    def _original(self, row: Row) -> int | None:
        """The label of a causal row in the reference; None if it has none there."""
        if row.source != CAUSAL:
            return None
        if self.policies["label"] == "repair" and not self.truth:
            raise StudyError(
                f"audit_label is repair, but nothing says the right labels of {CAUSAL}: put the "
                f"original annotation (sentence, label) into {REFERENCE} in data_root, or choose "
                "drop or report."
            )
        return self.truth.get(row.input.strip())

    def _findings(
        self, row: Row, original: int | None, leaks: set[str]
    ) -> Iterator[tuple[str, str]]:
        """Check and reason of everything that is wrong with a row."""
        if row.digest in self.seen:
            yield "duplicate", SAME
        self.seen[row.digest] = None
        for kind in personal_in(text_of(row)):
            yield "personal", kind
        if row.source == CAUSAL and kind_of(row.output) is None:
            yield "label", "label of no known kind"
        elif original is not None and original != kind_of(row.output):
            yield "label", "label contradicts the reference"
        if leaks:
            yield "leak", f"stands in {', '.join(sorted(leaks))}"


def _label_wordings(root: Path) -> dict[int, str]:
    """The source's own wording of each causal label, in which a repaired row is written."""
    wordings = {}
    for text in sorted({row.output for row in sources.read(CAUSAL, root, [])}):
        kind = kind_of(text)
        if kind is not None:
            wordings[kind] = text
    return wordings


def _digest(text: str) -> int:
    """Eight bytes that are equal for texts that differ only in case and white space."""
    plain = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(errors="replace"), digest_size=8).digest())


@dataclass
class Audit:
    """The findings in all sources, and their tables.

    Attributes:
        sizes: number of items of each benchmark.
        found: findings by source.
    """

    sizes: Counter
    found: dict[str, Findings] = field(default_factory=dict)

    @property
    def defects(self) -> list[Defect]:
        """All findings, source by source."""
        return [defect for findings in self.found.values() for defect in findings.defects]

    def hits(self) -> pd.DataFrame:
        """Every overlap of a row with a field of a benchmark item (columns `HITS`)."""
        rows = []
        for name, findings in self.found.items():
            rows += [hit | {"source": name} for hit in findings.hits]
        return pd.DataFrame(rows, columns=HITS)

    def examples(self) -> pd.DataFrame:
        """Beginnings of up to five rows of each finding; rows with personal data are left out."""
        rows = []
        for name, findings in self.found.items():
            for check, reason, row, text in findings.examples:
                rows.append((check, reason, name, row, text))
        return pd.DataFrame(rows, columns=["check", "reason", "source", "row", "begins"])

    def funnel(self) -> pd.DataFrame:
        """By source: rows read from its files, rows dropped by each check, rows kept.

        A row counts for the first check that drops it.
        """
        rows = []
        for name, findings in self.found.items():
            first: dict[tuple[str, int], str] = {}
            for defect in findings.defects:
                if defect.dropped:
                    first.setdefault((defect.file, defect.row), defect.check)
            dropped = Counter(first.values())
            counts = {check: dropped[check] for check in CHECKS}
            read = findings.rows + dropped["read"]
            rows.append({"source": name, "rows": read, **counts, "kept": read - dropped.total()})
        return pd.DataFrame(rows).set_index("source")

    def contamination(self) -> pd.DataFrame:
        """By source and benchmark: its items, and how many of them the source holds.

        The columns of `HOW` count each sense in which an item may be there; `any` counts all.
        """
        hits = self.hits().astype(dict.fromkeys(HOW, bool)).assign(any=True)
        by = ["source", "benchmark"]
        items = hits.groupby([*by, "item_id"])[[*HOW, "any"]].any()
        counts = items.groupby(by).sum()
        pairs = pd.MultiIndex.from_product([list(self.found), self.sizes], names=by)
        table = counts.reindex(pairs, fill_value=0)
        table.insert(0, "items", [self.sizes[benchmark] for _, benchmark in table.index])
        return table.reset_index()

    def label_verdict(self) -> dict:
        """How far the causal labels agree with the reference.

        Returns:
            The number of labels `checked` and a `verdict`. If any were checked, also the share that
            agrees as it is (`agree`) and under the best renaming of labels (`agree_renamed`).
        """
        from scipy.optimize import linear_sum_assignment  # half a second, which shards do without

        labels: np.ndarray = np.zeros((KINDS, KINDS), int)
        for findings in self.found.values():
            labels = labels + findings.labels
        checked = labels.sum()
        if not checked:
            verdict = "unverifiable" if CAUSAL in self.found else "not among the sources"
            return {"checked": 0, "verdict": verdict}
        agree = np.trace(labels) / checked
        renamed = labels[linear_sum_assignment(-labels)].sum() / checked
        if agree >= CLEAR:
            verdict = "right"
        elif renamed >= CLEAR:
            verdict = "permuted"
        else:
            verdict = "unreliable"
        return {
            "checked": int(checked),
            "agree": agree,
            "agree_renamed": renamed,
            "verdict": verdict,
        }
