"""How much more often one model is right than another, on the same questions."""

from __future__ import annotations

import pandas as pd

from sm70lib.statistics import differences
from sm70lib.statistics.verdicts import Bounds


def more_often(pairs: list[pd.DataFrame]) -> Bounds:
    """The share of right answers of one model minus that of another.

    Args:
        pairs: answers of both models to the same questions; columns of the other model end in _b.

    Returns:
        The difference by the level of its bounds.
    """
    pair = pd.concat(pairs)
    theirs, mine = (pair[name].to_numpy(float) for name in ("correct_b", "correct"))
    return lambda level: differences.difference(theirs, mine, pair["cluster"], level)
