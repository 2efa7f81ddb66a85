"""Shards of running text joined into one dataset, without the texts that an earlier shard has."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Features

from sm70lib.corpus import parts
from sm70lib.corpus.audit import SAME
from sm70lib.corpus.examples import TEXT, features_of
from sm70lib.corpus.findings import EXAMPLES, Findings
from sm70lib.corpus.parts import Maker, Part
from sm70lib.parameters import own
from sm70lib.preparing import near
from sm70lib.preparing.joining import start_dataset
from sm70lib.sources import Defect
from sm70lib.study.params import StudyError

_EMPTY: np.ndarray = np.zeros(0, np.uint64)


class Repeats:
    """Finds the texts of a shard that an earlier one has; eight bytes of each text are kept."""

    def __init__(self) -> None:
        self.earlier = _EMPTY  # sorted
        self.here: list[np.ndarray] = []

    def among(self, digests: np.ndarray) -> np.ndarray:
        """Whether each of these texts of the shard, by its digest, stands in an earlier one."""
        self.here.append(digests)
        return _inside(digests, self.earlier)

    def end_shard(self) -> None:
        """The texts of this shard count as earlier ones from now on."""
        self.earlier = np.union1d(self.earlier, np.concatenate([*self.here, self.earlier[:0]]))
        self.here = []


def join(p, maker: Maker, shards: list[Part], target: Path) -> dict[str, Findings]:
    """Writes the shards into one dataset, in their order.

    Args:
        p: the parameters of the study, which say what becomes of texts that are nearly the same.
        maker: what they were made with; its policy says what becomes of a repeated text.
        shards: finished shards, source by source.
        target: the folder of the dataset.

    Returns:
        The findings in each source, by the name that the audit has for it.

    Raises:
        StudyError: a text is repeated, or nearly, and the policy is fail; or a source has no
            usable text.
    """
    same = Repeated("audit_duplicate", maker.checks.policies["duplicate"], SAME)
    nearly = Repeated("cpt_near_duplicates", p.cpt_near_duplicates, near.NEARLY)
    alike = _EMPTY
    if nearly.policy != "none":
        alike = near.near_duplicates([shard.folder for shard in shards])
    columns = features_of("text", maker.tokenizer)
    features = Features({name: columns[name] for name in TEXT})
    repeats = Repeats()
    found: dict[str, Findings] = {}
    with parts.writer(start_dataset(target, features), features) as output:
        for shard in shards:
            repeated: list[Defect] = []
            for batch in parts.batches(shard.folder):
                again = repeats.among(batch["digest"].to_numpy())
                kept, defects = same.judged(batch, again)
                repeated += defects
                kept, defects = nearly.judged(kept, _inside(kept["digest"].to_numpy(), alike))
                repeated += defects
                output.write_batch(kept.select(TEXT))
            repeats.end_shard()
            findings = found.setdefault(f"{own.title(shard.name)} (text)", Findings())
            _add(findings, parts.read_findings(shard.folder), list(dict.fromkeys(repeated)))
    for name, findings in found.items():
        _require_rows(name, findings)
    return found


class Repeated(NamedTuple):
    """What is done with texts that are repeated.

    Attributes:
        parameter: the name of the parameter that says so.
        policy: its value: report, drop or fail.
        reason: why they are found.
    """

    parameter: str
    policy: str
    reason: str

    def judged(
        self, batch: pa.RecordBatch, repeated: np.ndarray
    ) -> tuple[pa.RecordBatch, list[Defect]]:
        """The rows that stay, and a finding for each repeated row; a long text has several rows.

        Raises:
            StudyError: there is a repeated row and the policy is fail.
        """
        found = []
        for row in batch.filter(pa.array(repeated)).drop_columns(["input_ids"]).to_pylist():
            if self.policy == "fail":
                raise StudyError(
                    f"{self.parameter} is fail; {row['file']} has in row {row['row']}: "
                    f"{self.reason}; set it to drop or report, or take the row out."
                )
            place = (row["source"], row["file"], row["row"])
            found.append(Defect(*place, self.reason, "duplicate", self.policy == "drop"))
        return batch.filter(pa.array(~repeated)) if self.policy == "drop" else batch, found


def _inside(digests: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which digests are known; `known` is sorted."""
    places = np.asarray(np.searchsorted(known, digests))
    repeated: np.ndarray = np.zeros(len(digests), bool)
    inside = places < len(known)
    repeated[inside] = known[places[inside]] == digests[inside]
    return repeated


def _add(all_of_source: Findings, shard: Findings, repeated: list[Defect]) -> None:
    """Adds the findings in a shard to those in its source. The check for repeats comes first."""
    all_of_source.rows += shard.rows
    all_of_source.defects += [*repeated, *shard.defects]
    all_of_source.hits += shard.hits
    all_of_source.labels = all_of_source.labels + shard.labels
    for example in shard.examples:
        same = [other for other in all_of_source.examples if other[:2] == example[:2]]
        if len(same) < EXAMPLES:
            all_of_source.examples.append(example)


def _require_rows(name: str, findings: Findings) -> None:
    if not findings.rows:
        reasons = list(dict.fromkeys(defect.reason for defect in findings.defects))
        raise StudyError(
            f"no row of {name} can be used: {', '.join(reasons[:2]) or 'it has none'}; get its "
            "files again, or take it out of the study."
        )
