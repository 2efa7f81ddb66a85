"""Each interval and test against an independent calculation: formula, enumeration, simulation."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import confint_proportions_2indep

from sm70lib.statistics import differences, effective, stats
from sm70lib.statistics.stats import Estimate, How


def answers(seed: int, clusters: int, size: int, skill: float, spread: float = 0.25):
    """Right or wrong (clusters * size,) where clusters differ in difficulty, and the cluster of
    each.
    """
    rng = np.random.default_rng(seed)
    chance = np.clip(rng.normal(skill, spread, clusters), 0, 1).repeat(size)
    return rng.random(clusters * size) < chance, np.arange(clusters).repeat(size)


def wilson(right: int, n: int) -> stats.Estimate:
    """The accuracy of n independent items with its interval."""
    return stats.rate([1] * right + [0] * (n - right), range(n))


def test_wilson_is_the_score_interval_in_closed_form():
    cases, z = [(0, 10), (3, 10), (762, 1273), (500, 500)], scipy_stats.norm.ppf(0.975)
    for k, n in cases:
        p, found = k / n, wilson(k, n)
        centre, half = (p + z**2 / 2 / n), z * sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
        ends = [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]
        assert found[1:3] == pytest.approx(ends)
        exact = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
        assert found[1:3] == pytest.approx([exact.low, exact.high])
    assert len(cases) == 4 and wilson(762, 1273).row()["low_pct"] == 57.1


def test_independent_items_get_wilson_and_clustered_ones_a_wider_one():
    correct, cluster = answers(0, 40, 8, 0.6)
    alone, together = stats.rate(correct, range(320)), stats.rate(correct, cluster)
    exact = scipy_stats.binomtest(int(correct.sum()), 320).proportion_ci(method="wilson")
    assert alone[1:3] == pytest.approx([exact.low, exact.high]) and alone.method == "Wilson"
    assert (together.method, together.n) == ("Wilson, effective n", 320)
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 1.3 * (alone.high - alone.low)


def test_effective_n_is_the_variance_of_cluster_means_where_many_are_wrong():
    """In equal clusters the design effect is the variance over clusters over that of items."""
    sums = np.random.default_rng(1).binomial(5, np.random.default_rng(2).beta(2, 2, 4000))
    sizes, share = np.full(4000, 5), sums.sum() / 20_000
    effect = (sums / 5).var() / (share * (1 - share) / 5)
    found = effective.effective_n(sums, sums.sum(), sizes, 0.95, 0)
    assert found == pytest.approx(20_000 / effect, rel=0.005) and effect > 1.5
    fewer = effective.effective_n(sums[:8], sums[:8].sum(), sizes[:8], 0.95, 0)
    price = (scipy_stats.norm.ppf(0.975) / scipy_stats.t(7).ppf(0.975)) ** 2
    assert fewer < 40 * price


def test_effective_n_lies_between_clusters_and_items():
    sizes, price = np.full(50, 4), (scipy_stats.norm.ppf(0.975) / scipy_stats.t(49).ppf(0.975)) ** 2
    same, mixed = np.where(np.arange(50) < 30, 4, 0), np.full(50, 2)
    for added in (0, 1):
        assert effective.effective_n(mixed, 100, sizes, 0.95, added) == pytest.approx(200 * price)
        assert effective.effective_n(same, 120, sizes, 0.95, added) == pytest.approx(
            50 * price, rel=0.001
        )
    assert effective.effective_n(sizes, 200, sizes, 0.95, 0) == pytest.approx(50 * price)


def test_no_interval_has_width_zero():
    cluster = np.arange(20).repeat(4)
    perfect, none = stats.rate(np.ones(80), cluster), stats.rate(np.zeros(80), cluster)
    assert perfect.low == pytest.approx(wilson(20, 20).low, abs=0.02) and perfect.high == 1
    assert none.high == pytest.approx(1 - perfect.low) and none.low == 0
    assert perfect.low < wilson(20, 20).low, "t instead of z"
    assert stats.rate([1, 0], ["one", "one"])[1:3] == (0, 1)


def test_macro_average_is_the_mean_of_the_parts():
    parts = np.array(["a"] * 90 + ["b"] * 30)
    correct = np.array([True] * 45 + [False] * 45 + [True] * 30)
    weight = [1 / (parts == part).sum() for part in parts]
    assert stats.rate(correct, range(120), weight=weight).value == pytest.approx((0.5 + 1) / 2)
    assert stats.rate(correct, range(120)).value == pytest.approx(75 / 120)


def test_seed_decides_the_resampling():
    (a, cluster), (b, _) = answers(2, 25, 4, 0.5), answers(3, 25, 4, 0.6)
    p = [
        stats.paired_test(a, b, cluster, How(seed=seed, resamples=500))[0]
        for seed in (1, 1, 2, 3, 4)
    ]
    assert p[0] == p[1] and len(set(p)) > 1


def test_mcnemar_is_the_binomial_test_of_the_flips():
    rng, checked = np.random.default_rng(3), 0
    for _ in range(20):
        a, b = rng.random(60) < 0.5, rng.random(60) < 0.65
        gained, lost = int((~a & b).sum()), int((a & ~b).sum())
        p, name = stats.paired_test(a, b, range(60))
        exact = scipy_stats.binomtest(gained, gained + lost).pvalue
        assert name == "exact McNemar" and p == pytest.approx(exact)
        checked += 1
    assert checked == 20


def test_sign_flip_equals_the_enumeration_of_all_flips():
    a, cluster = answers(4, 9, 5, 0.4)
    b, _ = answers(5, 9, 5, 0.7)
    gains = (b.astype(int) - a).reshape(9, 5).sum(1)
    sums = np.array([np.dot(signs, gains) for signs in product((1, -1), repeat=9)])
    exact = min(1, 2 * min((sums >= gains.sum()).mean(), (sums <= gains.sum()).mean()))
    p, name = stats.paired_test(a, b, cluster)
    assert name == "cluster sign-flip" and p == pytest.approx(exact)
    assert stats.paired_test(a, a, cluster) == (1.0, "cluster sign-flip")


def test_no_p_is_zero():
    wrong, right = np.zeros(2000), np.ones(2000)
    exact, _ = stats.paired_test(wrong, right, range(2000))
    drawn, _ = stats.paired_test(wrong, right, np.arange(2000) // 10, How(resamples=400))
    assert 0 < exact < 1e-300 and drawn == pytest.approx(2 / 401)
    texts = [stats.p_text(p) for p in (exact, 2 / 2001, 0.001, 0.04567, 1.0, float("nan"))]
    assert texts == ["< 0.001", "< 0.001", "0.001", "0.0457", "1", ""]


def test_holm_equals_the_step_down_by_hand():
    p_values = [0.04, 0.001, 0.03]
    assert stats.holm(p_values) == pytest.approx([0.06, 0.003, 0.06])


def test_detectable_difference_is_found_in_four_of_five_studies():
    """By the bound that gives the verdict: the test and the planned size speak of the same
    interval.
    """
    rng, n, found = np.random.default_rng(6), 400, []
    a = rng.random(n) < 0.5
    b = np.where(rng.random(n) < 0.2, ~a, a)
    size, share = stats.detectable(a, b, range(n)), np.mean(a != b)
    won, lost, _ = rng.multinomial(n, [(share + size) / 2, (share - size) / 2, 1 - share], 4000).T
    found = differences.tango(won, lost, (n, n), n, 0.95)[0] > 0
    assert found.mean() == pytest.approx(0.8, abs=0.04)


def test_detectable_difference_of_clusters_is_found_about_as_often():
    rng = np.random.default_rng(7)
    difficulty = rng.dirichlet((0.15, 0.15, 0.7), 60)  # of gains, losses and ties
    drawn = [rng.multinomial(5, chances) for chances in difficulty]
    gain = np.concatenate([[1] * won + [-1] * lost + [0] * same for won, lost, same in drawn])
    cluster = np.arange(60).repeat(5)
    size = stats.detectable(gain < 0, gain > 0, cluster)
    share = np.abs(gain).mean()
    chances = np.array([(share + size) / 2, (share - size) / 2, 1 - share])
    won, lost, _ = np.moveaxis(rng.multinomial(5, rng.dirichlet(chances, (600, 60))), -1, 0)
    found = differences.clustered_difference(won, lost, np.full((600, 60), 5), 0.95)[0] > 0
    assert 0.7 < np.mean(found) < 0.93


def test_detectable_difference_falls_with_n_and_never_to_nothing():
    same = np.ones(100)
    least = 2.802**2 / 100 + 1 / 100  # and one answer of correction for continuity
    assert stats.detectable(same, same, range(100)) == pytest.approx(least, rel=1e-3)
    a, cluster = answers(8, 40, 10, 0.4)
    b, _ = answers(9, 40, 10, 0.6)
    assert stats.detectable(a, b, cluster) > stats.detectable(a, b, range(400))


def test_difference_of_paired_models_has_about_the_interval_of_its_cluster_means():
    """Where many answers differ; the rest is in test_verdicts."""
    a, cluster = answers(10, 60, 5, 0.4)
    b, _ = answers(11, 60, 5, 0.6)
    found = differences.difference(a, b, cluster)
    means = (b.astype(float) - a).reshape(60, 5).mean(1)
    half = scipy_stats.t(59).ppf(0.975) * means.std(ddof=1) / sqrt(60)
    assert found.value == pytest.approx(b.mean() - a.mean())
    assert found[1:3] == pytest.approx([found.value - half, found.value + half], abs=0.02)
    assert found.high - found.low > 2 * half


def test_quoted_value_is_compared_by_newcombes_interval_with_both_n():
    ours, theirs = wilson(700, 1273), wilson(779, 1000)
    low, high = confint_proportions_2indep(700, 1273, 779, 1000, method="newcomb", compare="diff")
    assert stats.minus(ours, theirs)[:4] == pytest.approx((700 / 1273 - 0.779, low, high, 2273))


def test_gain_on_flagged_items_minus_gain_on_clean_ones():
    rng, n = np.random.default_rng(12), 600
    flagged = np.arange(n) < 200
    a = rng.random(n) < 0.4
    b = np.where(flagged, rng.random(n) < 0.9, rng.random(n) < 0.5)
    leaked, clean, effect = differences.gain_difference(a, b, range(n), flagged)
    assert effect.value == pytest.approx(leaked.value - clean.value) and (leaked.n, clean.n) == (
        200,
        400,
    )
    gain, draws = b.astype(float) - a, []
    for _ in range(4000):
        draws.append(rng.choice(gain[flagged], 200).mean() - rng.choice(gain[~flagged], 400).mean())
    assert effect[1:3] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.015)
    assert effect.low > 0


def test_cells_are_percent_with_one_decimal_and_no_minus_zero():
    row = Estimate(-0.0001, -0.05, 0.049, 7, "Wilson").row("difference_pts", "pts")
    assert row == {
        "n": 7,
        "difference_pts": 0.0,
        "low_pts": -5.0,
        "high_pts": 4.9,
        "interval": "Wilson",
    }
    assert str(row["difference_pts"]) == "0.0"
