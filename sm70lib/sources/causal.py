"""The labels of Medical Meadow's pubmed_causal, checked against the original annotation."""

import re
from collections import defaultdict
from pathlib import Path

from sm70lib.sources.problems import problem
from sm70lib.sources.records import records
from sm70lib.study.params import StudyError

CAUSAL, REFERENCE = "medical_meadow_pubmed_causal", "pubmed_causal_reference"
# What a label means, by the first of these phrases in it. Numbers are the original annotation's.
KINDS = {"no relationship": 0, "conditional": 2, "correlat": 3, "caus": 1}
LABELS = "0 (no relationship), 1 (causal), 2 (conditional) and 3 (correlation)"


def reference(root: Path) -> dict[str, int]:
    """Original labels by sentence, from the reference's CSV or JSON Lines below a data folder.

    Args:
        root: the study's `data_root`.

    Returns:
        The number of each sentence's label; {} if there is no reference. A sentence that has two
        different labels is left out.

    Raises:
        StudyError: a row has no sentence, no label, or a label of no known kind. Whatever is
            checked or repaired by such a reference would be wrong.
    """
    kinds = defaultdict(set)
    for path in sorted([*root.glob(f"{REFERENCE}/*.jsonl"), *root.glob(f"{REFERENCE}/*.csv")]):
        for number, line in records(path):
            kind = _kind_in(line, f"{path}, row {number}")
            kinds[line["sentence"].strip()].add(kind)
    return {sentence: min(found) for sentence, found in kinds.items() if len(found) == 1}


def _kind_in(line: dict, place: str) -> int:
    reason = problem(line, "sentence")
    if reason:
        raise StudyError(f"{place}: {reason}; mend or remove the row.")
    if "label" not in line:
        raise StudyError(
            f"{place}: there is nothing under label, only {', '.join(line)}; "
            f"name the column of the labels label. They are {LABELS}."
        )
    kind = kind_of(line["label"])
    if kind is None:
        raise StudyError(
            f"{place}: label is {line['label']!r}, but labels are {LABELS}; "
            "correct it, or remove the row."
        )
    return kind


def kind_of(label: object) -> int | None:
    """What a label means: a number, or a text with a phrase of KINDS; None for any other label."""
    text = str(label).strip().casefold()
    if label == text == "none":  # the word "none"; a missing label (None) is no label
        return 0
    if text in set("0123"):
        return int(text)
    denied = re.search(r"\b(no|not)\b", text)
    if denied and "no relationship" not in text:  # such as "no causal relationship"
        return None
    return next((kind for phrase, kind in KINDS.items() if phrase in text), None)
