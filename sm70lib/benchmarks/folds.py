"""PubMedQA's own splits: which of its 1,000 are the test, fold 0's training part, and in what order.

`pubmed_qa_labeled_fold0_source`, which lm-evaluation-harness and Meditron read, has 450 rows to
train on, 50 to validate with and 500 of test. Its authors' repository has no list of the 450, but
the script that cuts them (github:pubmedqa/pubmedqa, preprocess/split_dataset.py): one generator,
seed 0, over the rows in the order of `ori_pqal.json`. Followed here, it gives the 500 of their
`test_ground_truth.json` in that file's order, which is how we know that it is followed.
"""

import math
import random

from sm70lib.benchmarks.item import Item

SEED = 0
LABELS = ("yes", "no", "maybe")  # in the order in which the file first has them


def official(items: list[Item]) -> tuple[list[Item], list[Item]] | None:
    """The test and fold 0's training part, in the order of the authors' files.

    Args:
        items: all 1,000, in the order of `ori_pqal.json`.

    Returns:
        500 and 450 items; None where the test found is not the one that the items are marked
        with: other items than the authors', or another order.
    """
    draw = random.Random(SEED)
    rest, test = _cut(items, 2, draw)
    if len(items) != 1000 or {item.id for item in test} != _marked(items):
        return None
    return test, [item for fold in _cut(rest, 10, draw)[1:] for item in fold]


def _marked(items: list[Item]) -> set[str]:
    return {item.id for item in items if item.meta.get("test")}


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
