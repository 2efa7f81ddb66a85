"""PubMedQA's own splits: which of its 1,000 are the test and which train fold 0, in their order.

`pubmed_qa_labeled_fold0_source`, which lm-evaluation-harness and Meditron read, has 450 rows to
train on, 50 to validate with and 500 to test on. The authors' repository does not list the 450, but
it has the script that cuts them (github:pubmedqa/pubmedqa, preprocess/split_dataset.py): one
generator, seed 0, over the rows in the order of `ori_pqal.json`. This module does the same. As a
proof, it gives the 500 of the authors' `test_ground_truth.json`, in that file's order.
"""

import math
import random

from sm70lib.benchmarks.item import Item

SEED = 0
LABELS = ("yes", "no", "maybe")  # in the order in which they first appear in the file


def official(items: list[Item]) -> tuple[list[Item], list[Item]] | None:
    """The test and fold 0's training part, in the order of the authors' files.

    Args:
        items: all 1,000, in the order of `ori_pqal.json`.

    Returns:
        500 and 450 items. None if the test differs from the one that the items' details mark: the
        items are then not the authors', or in another order.
    """
    draw = random.Random(SEED)
    rest, test = _cut(items, 2, draw)
    if len(items) != 1000 or {item.id for item in test} != _marked(items):
        return None
    _validation, *training = _cut(rest, 10, draw)
    return test, [item for fold in training for item in fold]


def _marked(items: list[Item]) -> set[str]:
    return {item.id for item in items if item.details.test}


def _cut(items: list[Item], count: int, draw: random.Random) -> list[list[Item]]:
    """`count` parts with the same share of each label; the last is filled up from the others."""
    parts: list[list[Item]] = [[] for _ in range(count)]
    for label in LABELS:
        same = [item for item in items if item.options[item.answer] == label]
        draw.shuffle(same)
        size = math.ceil(len(same) / count)
        for number, part in enumerate(parts):
            part += same[number * size : (number + 1) * size]
    *others, last = parts
    if len(last) != len(parts[0]):
        for part in others:
            last.append(part.pop(draw.randrange(len(part))))
    return parts
