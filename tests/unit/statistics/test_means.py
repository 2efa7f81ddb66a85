"""Means over clusters against scipy and statsmodels, and how often their bounds hold."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats as laws

from sm70lib.statistics import means


def test_without_clusters_a_mean_is_that_of_the_t_test():
    values = np.random.default_rng(0).normal(0.3, 1, 40)
    found = means.mean(values, range(40))
    assert (found.low, found.high) == pytest.approx(
        laws.ttest_1samp(values, 0).confidence_interval()
    )


def test_a_crossover_without_clusters_is_half_of_welchs_difference():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.5, 1, 60), rng.normal(-0.2, 2, 45)
    found = means.crossover(first, second, range(60), range(45))
    theirs = laws.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert found.n == 105 and found.value == pytest.approx((first.mean() - second.mean()) / 2)
    assert (2 * found.low, 2 * found.high) == pytest.approx(tuple(theirs))


def test_with_clusters_the_error_is_that_of_statsmodels():
    rng = np.random.default_rng(2)
    cluster = rng.integers(0, 30, 90)
    values = rng.normal(0, 1, 30)[cluster] + rng.normal(0, 0.3, 90)
    fit = sm.OLS(values, np.ones(90)).fit(
        cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True
    )
    found = means.mean(values, cluster)
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[0]))


def test_a_shift_of_all_items_cancels_out():
    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 1, 50), rng.normal(0, 1, 50)
    plain = means.crossover(first, second, range(50), range(50))
    moved = means.crossover(first + 7, second + 7, range(50), range(50))
    assert moved[:3] == pytest.approx(plain[:3])


def test_fewer_than_20_clusters_exclude_nothing():
    found = means.crossover([1.0] * 30, [0.0] * 30, range(30), [n % 19 for n in range(30)])
    assert found.low == -np.inf and found.method == "none: 19 clusters, at least 20 needed"


def test_the_lower_bound_misses_the_truth_in_a_fortieth_of_draws():
    """2.5 % are meant; over 2,000 draws the share has a standard error of 0.35 points."""
    rng, missed = np.random.default_rng(4), 0
    cluster = np.repeat(np.arange(30), 2)
    for _ in range(2000):
        sides = (rng.normal(0, 1, 30)[cluster] + rng.normal(0, 1, 60) for _ in range(2))
        missed += means.crossover(*sides, cluster, cluster).low > 0
    assert 0.012 < missed / 2000 < 0.04
