"""How sure a model was of its answers, by the log-likelihoods of their options."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNKNOWN = (np.nan, np.nan)  # in place of scores, where a reply was written


def measured(scores: Sequence[Sequence[float]], gold: Sequence[int]) -> dict[str, np.ndarray]:
    """Confidence, margin and Brier score of each answer.

    Answers with equally many options are computed together: a million take seconds.

    Args:
        scores: the log-likelihoods of each answer's options (nats); [] where there are none.
        gold: the place of each right option.

    Returns:
        (n,) arrays: `confidence` (softmax share of the best option), `margin` (nats over the next
        best) and `brier`.
    """
    found = {name: np.empty(len(scores)) for name in ("confidence", "margin", "brier")}
    sizes = np.array([len(options) or len(UNKNOWN) for options in scores], int)
    for size in np.unique(sizes):
        places = np.flatnonzero(sizes == size).tolist()
        block = np.array([list(scores[place]) or UNKNOWN for place in places], float)
        share = np.exp(block - block.max(axis=1, keepdims=True))
        share = share / share.sum(axis=1, keepdims=True)
        right = np.arange(size) == np.array([gold[place] for place in places])[:, None]
        ordered = np.sort(block, axis=1)
        found["confidence"][places] = share.max(axis=1)
        found["margin"][places] = ordered[:, -1] - ordered[:, -2]
        found["brier"][places] = np.sum((share - right) ** 2, axis=1)
    return found
