"""The labels of Medical Meadow's pubmed_causal, and the original annotation that they are checked by."""

import re
from collections import defaultdict
from pathlib import Path

from sm70lib.sources.records import problem, records
from sm70lib.study.params import StudyError

CAUSAL, REFERENCE = "medical_meadow_pubmed_causal", "pubmed_causal_reference"
# What a label says, by the first phrase it holds; numbered as in the original annotation
KINDS = {"no relationship": 0, "conditional": 2, "correlat": 3, "caus": 1}
LABELS = "0 (no relationship), 1 (causal), 2 (conditional) and 3 (correlation)"


def reference(root: Path) -> dict[str, int]:
    """Original labels by sentence, from the reference's CSV or JSON Lines below a data folder.

    Args:
        root: the study's `data_root`; {} where it has no reference.

    Returns:
        The number of each sentence's label. A sentence that stands there under two labels says
        neither, and is left out.

    Raises:
        StudyError: a row has no sentence or no label, or one of no known kind, since what is
            checked against such a reference, or repaired by it, would be wrong.
    """
    labels = defaultdict(set)
    for path in sorted([*root.glob(f"{REFERENCE}/*.jsonl"), *root.glob(f"{REFERENCE}/*.csv")]):
        for number, line in records(path):
            if reason := problem(line, "sentence"):
                raise StudyError(f"{path}, row {number}: {reason}; mend or remove the row.")
            if "label" not in line:
                raise StudyError(
                    f"{path}, row {number}: there is nothing under label, only {', '.join(line)}; "
                    f"name the column of the labels label. They are {LABELS}."
                )
            if (kind := kind_of(line["label"])) is None:
                raise StudyError(
                    f"{path}, row {number}: label is {line['label']!r}, but labels are {LABELS}; "
                    "correct it, or remove the row."
                )
            labels[line["sentence"].strip()].add(kind)
    return {sentence: min(kinds) for sentence, kinds in labels.items() if len(kinds) == 1}


def kind_of(label: object) -> int | None:
    """What a label says: a number, or a text that holds a phrase of KINDS; None for any other."""
    text = str(label).strip().casefold()
    if label == text == "none":  # the word, and not a label that is missing
        return 0
    if text in set("0123"):
        return int(text)
    denied = re.search(r"\b(no|not)\b", text)
    if denied and "no relationship" not in text:  # such as "no causal relationship"
        return None
    return next((kind for phrase, kind in KINDS.items() if phrase in text), None)
