"""Confidence, margin and Brier score are those of other people's definitions, answer by answer."""

import numpy as np
from scipy.special import softmax

from sm70lib.statistics import confidence


def test_a_mix_of_option_counts_is_measured_as_each_answer_alone():
    rng = np.random.default_rng(0)
    sizes = rng.choice([0, 2, 3, 4, 5, 10], 300)
    scores = [rng.normal(-500, 30, size).tolist() for size in sizes]
    gold = [int(rng.integers(max(size, 2))) for size in sizes]
    found = confidence.measured(scores, gold)
    assert sorted(found) == ["brier", "confidence", "margin"] and set(sizes) == {0, 2, 3, 4, 5, 10}
    for place, (options, right) in enumerate(zip(scores, gold)):
        cells = {name: values[place] for name, values in found.items()}
        if not options:
            assert all(np.isnan(value) for value in cells.values())
            continue
        share = softmax(options)
        second, best = sorted(options)[-2:]
        truth = np.eye(len(options))[right]
        assert np.isclose(cells["confidence"], share.max()) and cells["margin"] == best - second
        assert np.isclose(cells["brier"], ((share - truth) ** 2).sum())


def test_no_answers_are_no_error():
    assert all(len(values) == 0 for values in confidence.measured([], []).values())
