"""Made-up data, as 01 finds them: two sources, three benchmarks, lengths of rows, a funnel."""

import pandas as pd

from sm70lib.benchmarks import Item
from sm70lib.corpus.audit import CHECKS

NAMES = ["medical_meadow_wikidoc", "practice_questions"]
HELD = pd.DataFrame({"medical_meadow_cord19": [900, 90], "medical_meadow_medqa": [100, 0]})
HELD = HELD.set_axis(["sm70", "sm70-small"])
LENGTHS = pd.DataFrame(
    {
        "source": pd.Categorical([NAMES[1]] * 3 + [NAMES[0]] * 2),
        "tokens": [10, 12, 20, 20, 15],
        "targets": [2, 2, 2, 10, 4],
        "cut": [0, 0, 5, 7, 0],
    }
)
FUNNEL = pd.DataFrame(
    {"rows": [4, 5], **dict.fromkeys(CHECKS, 0), "kept": [2, 3]},
    pd.Index(NAMES, name="source"),
).assign(duplicate=[2, 0], leak=[0, 2])


def items(answers: list[int], options: int = 4) -> list[Item]:
    """Items of one benchmark, by the position of the right option, from 0."""
    texts = tuple("abcdefghij"[:options])
    return [
        Item(str(number), str(number), "exam", "why?", "", texts, answer)
        for number, answer in enumerate(answers)
    ]


ASKED = {"medqa_4": items([0, 1, 1, 3]), "truthfulqa": items([0, 0]), "mmlu_pro": items([9, 2], 10)}
