"""Bounds that hold when used alone, against what others wrote, likelihoods and simulation."""

import gc
import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as laws
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from sm70lib.statistics import differences, effective, spread, stats, verdicts
from sm70lib.statistics.stats import Estimate
from tests import simulated

Z = laws.norm.ppf(0.975)


def answers(won: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two models on n items: `won` right only by the second, `lost` only by the first."""
    a, b = np.zeros(n, bool), np.zeros(n, bool)
    b[:won], a[won : won + lost] = True, True
    return a, b


# ---- against what others wrote -----------------------------------------------------------------


def test_independent_items_get_the_bounds_of_clopper_and_pearson():
    cases = [(0, 10), (3, 10), (762, 1273), (500, 500)]
    for right, n in cases:
        found = verdicts.accuracy(np.arange(n) < right, range(n))
        theirs = proportion_confint(right, n, method="beta")
        scipys = laws.binomtest(right, n).proportion_ci(method="exact")
        assert found[1:3] == pytest.approx(theirs)
        assert found[1:3] == pytest.approx((scipys.low, scipys.high))
        assert (found.value, found.n, found.method) == (right / n, n, "Clopper-Pearson")
    assert len(cases) == 4


def score(won: int, lost: int, n: int, difference: float) -> float:
    """(d - difference) / SE, its nuisance found by searching the trinomial likelihood."""
    rest = n - won - lost

    def unlikely(share: float) -> float:  # of losses; gains are that and the difference
        shares = share + difference, share, 1 - 2 * share - difference
        counts = (won, lost, rest)
        return -sum(k * math.log(max(p, 1e-300)) for k, p in zip(counts, shares) if k)

    low, high = max(0.0, -difference), (1 - difference) / 2
    share = optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    ).x
    share = min((low, share, high), key=unlikely)
    error = math.sqrt(max(2 * share + difference - difference**2, 1e-300) / n)
    return ((won - lost) / n - difference) / error


def test_tangos_bounds_solve_the_score_equation():
    """The statistic comes from a numerical search of the likelihood, not from Tango's formula."""
    cases = [(9, 4, 100), (30, 12, 325), (40, 0, 200), (1, 7, 21), (180, 150, 1273)]
    for won, lost, n in cases:
        low, high = (
            float(end) for end in differences.tango(won + 0.0, lost + 0.0, (n, n), n, 0.95)
        )
        for end, sign in ((low, 1), (high, -1)):
            # one answer of correction: the observed difference is moved by 1 / n towards the bound
            share = score(won, lost, n, end)
            se = ((won - lost) / n - end) / share
            assert ((won - lost) / n - end - sign / n) / se == pytest.approx(sign * Z, abs=1e-4)
    assert len(cases) == 5


def test_tangos_uncorrected_bounds_are_the_published_ones():
    """Airway hyper-responsiveness before and after stem cell transplantation (Bentur et al. 2009):
    Fagerland, Lydersen and Laake 2014, Stat. Med. 33:2850, print -0.517 to -0.026 for 1 against 7
    discordant of 21 children."""
    low = differences._tango_low(1.0, 7.0, 21, 0.0, 0.95)
    high = -differences._tango_low(7.0, 1.0, 21, 0.0, 0.95)
    assert (round(float(low), 3), round(float(high), 3)) == (-0.517, -0.026)


def test_a_bound_excludes_nothing_that_the_exact_mcnemar_test_keeps():
    checked = excluded = 0
    for flips in range(1, 61):
        for won in range(flips // 2, flips + 1):
            lost = flips - won
            low = differences.tango(float(won), float(lost), (400, 400), 400, 0.95)[0]
            p = mcnemar([[0, won], [lost, 0]], exact=True).pvalue
            checked, excluded = checked + 1, excluded + (low > 0)
            assert not (low > 0 and p > 0.05), (won, lost)
    assert checked == 990 and excluded > 400


def test_identical_answers_get_the_interval_that_n_allows():
    same = [differences.difference(*answers(0, 0, n), range(n)) for n in (50, 325, 1273)]
    widths = [found.high - found.low for found in same]
    assert all(found.low == -found.high < 0 for found in same)
    assert widths == sorted(widths, reverse=True) and 0.003 < widths[-1] < 0.01
    cluster = np.arange(240) // 6
    clustered = differences.difference(*answers(0, 0, 240), cluster)
    alone = differences.difference(*answers(0, 0, 40), range(40))
    assert clustered.low == pytest.approx(-clustered.high)
    assert clustered.high == pytest.approx(alone.high, rel=0.25), "40 clusters tell as much as 40"


# ---- clusters ----------------------------------------------------------------------------------


def test_equal_answers_in_a_cluster_count_once():
    """Copies of each answer add nothing: the bounds are those of the clusters, slightly wider."""
    once = np.arange(60) < 51
    found = verdicts.accuracy(once.repeat(5), np.arange(60).repeat(5))
    low, high = proportion_confint(51, 60, method="beta")
    assert found.low < low and found.high > high and (found.n, found.value) == (300, 0.85)
    assert found.high - found.low < 1.1 * (high - low)
    assert found.method == "Clopper-Pearson, effective n"


def test_all_right_is_as_sure_as_the_number_of_clusters_allows():
    found = verdicts.accuracy(np.ones(240), np.arange(40).repeat(6))
    low = proportion_confint(40, 40, method="beta")[0]
    assert low - 0.01 < found.low < low and found.high == 1
    assert verdicts.accuracy([1, 1], ["one", "one"])[1:3] == (0, 1)


def test_independent_items_with_one_pair_are_almost_independent():
    """No jump between "each its own" and "one cluster of two"."""
    right = np.random.default_rng(0).random(400) < 0.8
    cluster = np.arange(400)
    cluster[1] = 0
    one, other = (verdicts.accuracy(right, labels) for labels in (range(400), cluster))
    assert one[1:3] == pytest.approx(other[1:3], abs=0.003)


def test_fewer_than_twenty_clusters_exclude_nothing():
    a, b = np.zeros(95, bool), np.ones(95, bool)
    few, enough = np.arange(95) // 5, np.arange(100) // 5
    found = differences.difference(a, b, few)
    assert found[1:3] == (-1, 1) and found.method == "none: 19 clusters, at least 20 needed"
    assert verdicts.judged(found) == verdicts.OPEN
    assert differences.difference(np.zeros(100), np.ones(100), enough).low > 0.5
    assert differences.difference(a, b, range(95)).low > 0.9, "independent items need no clusters"


def test_a_mean_over_parts_weighs_parts_and_knows_the_smallest():
    parts = np.array(["a"] * 90 + ["b"] * 30)
    right = np.array([True] * 45 + [False] * 45 + [True] * 30)
    weight = np.array([1 / (parts == part).sum() for part in parts])
    found = verdicts.accuracy(right, range(120), weight=weight)
    assert found.value == pytest.approx(0.75) and found.low < 0.7 < 0.8 < found.high
    both = verdicts.accuracy(np.ones(120), range(120), weight=weight)
    # 60 items, 30 of each part, would leave the same doubt
    assert both.low == pytest.approx(proportion_confint(60, 60, method="beta")[0], abs=0.002)


def test_draws_of_the_same_items_are_given_as_their_mean():
    rng = np.random.default_rng(1)
    draws = rng.random((3, 200)) < np.linspace(0.2, 1, 200)
    found = verdicts.accuracy(draws.mean(0), range(200))
    assert found.n == 200 and found.value == pytest.approx(draws.mean())
    low, high = proportion_confint(draws.mean() * 200, 200, method="beta")
    assert found[1:3] == pytest.approx((low, high))


# ---- simulated coverage (the whole of it: python -m tests.simulated) ---------------------------

DRAWS = 3000
# 4 % and two and a half standard errors of a share of 3,000 draws at 4 %
TOLERATED = 100 * (0.04 + 2.5 * math.sqrt(0.04 * 0.96 / DRAWS))


def situations() -> list[dict]:
    """Situations in which simpler rules miss most, and some plain ones."""
    rows = []
    for clusters, share, icc in (
        (36, 0.5, 0),
        (36, 0.9, 1),
        (36, 0.93, 0.6),
        (60, 0.93, 1),
        (48, 0.9, 0.3),
    ):
        rows += simulated.one_accuracy(DRAWS, clusters, share, icc, seed=1)
    for shares in ((0.9, 0.9, 0.9), (0.99, 0.9, 0.8)):
        rows += simulated.macro(DRAWS, shares, seed=1)
    for n, flipped, won in ((100, 0.05, 0.9), (500, 0.01, 0.9), (325, 0.25, 0.5), (200, 0.02, 1)):
        rows += simulated.pairs(DRAWS, n, flipped, won, seed=1)
    for setting in ((36, 0.01, 1, 1), (36, 0.03, 1, 0.3), (60, 0.1, 1, 1), (60, 0.3, 0.5, 0.1)):
        rows += simulated.clustered_pairs(DRAWS, *setting, seed=1)
    rows += simulated.unpaired(DRAWS, (325, 0.9), (1000, 0.95), seed=1)
    return rows + simulated.worlds(DRAWS, 8, seed=1)


def test_no_bound_misses_the_truth_more_often_than_it_may():
    rows = situations()
    missed = [row for row in rows if max(row["below"], row["above"]) > TOLERATED]
    assert len(rows) == 22 and not missed, missed
    assert min(row["width"] for row in rows) > 0.5
    plain = rows[0]
    assert 0.5 < plain["below"] and plain["width"] < 25, "a bound that never misses says nothing"


def test_the_rules_without_their_amendments_do_miss():
    """Why there are an added cluster and a score interval: the textbook forms, written out here."""
    rng = np.random.default_rng(2)
    size = simulated.sizes(rng, 4000, 36)
    right = simulated.right(rng, size, 0.93, 0.6)
    n, value = size.sum(1), right.sum(1) / size.sum(1)
    variance = 36 / 35 * ((right - value[:, None] * size) ** 2).sum(1) / n**2
    with np.errstate(all="ignore"):
        enough = np.minimum(value * (1 - value) / variance, n) * (Z / laws.t.ppf(0.975, 35)) ** 2
    enough = np.where(value == 1, 36, enough)
    low = proportion_confint(value * enough, enough, method="beta")[0]
    assert (low > 0.93).mean() > 0.05, "Korn and Graubard from the clusters alone"
    gains, losses = simulated.flips(rng, size, 0.03, 1, 0.3)
    gap = (gains - losses).sum(1) / n
    error = np.sqrt(36 / 35 * ((gains - losses - gap[:, None] * size) ** 2).sum(1)) / n
    assert (gap + laws.t.ppf(0.975, 35) * error < 0.03).mean() > 0.10, "t on cluster sums"


def test_simulated_clusters_have_the_icc_that_they_claim():
    rng, checked = np.random.default_rng(3), 0
    for icc in simulated.ICCS:
        size = np.full((200_000, 1), 6)
        variance = simulated.right(rng, size, 0.9, icc).var() / 6 / 0.09
        assert variance == pytest.approx(1 + 5 * icc, rel=0.03)
        gains, losses = simulated.flips(rng, size, 0.3, 0.8, icc)
        assert gains.mean() / 6 == pytest.approx(0.24, rel=0.02)
        assert gains.var() / 6 / (0.24 * 0.76) == pytest.approx(1 + 5 * icc, rel=0.03)
        assert losses.var() / 6 / (0.06 * 0.94) == pytest.approx(1 + 5 * icc, rel=0.04)
        checked += 1
    assert checked == 5


def test_the_simulation_uses_the_bounds_that_users_get():
    rng = np.random.default_rng(4)
    size = simulated.sizes(rng, 1, 40)
    cluster = np.arange(40).repeat(size[0])
    gains, losses = simulated.flips(rng, size, 0.2, 0.8, 0.3)
    right = simulated.right(rng, size, 0.8, 0.3)
    spread = [[1] * int(k) + [0] * int(m - k) for k, m in zip(right[0], size[0])]
    found = verdicts.accuracy(np.concatenate(spread), cluster)
    ends = [
        effective.effective_n(right, right.sum(-1), size, simulated.LEVEL, added)
        for added in (0, 1)
    ]
    bounds = verdicts.exact_bounds(right.sum(-1) / size.sum(-1), ends, simulated.LEVEL)
    assert found[1:3] == pytest.approx(np.ravel(bounds))
    a = [[0] * int(g) + [1] * int(m - g) for g, m in zip(gains[0], size[0])]
    b = [
        [1] * int(m - k) + [0] * int(k) for k, m in zip(losses[0], size[0])
    ]  # losses stand last, where a is right
    found = differences.difference(np.concatenate(a), np.concatenate(b), cluster)
    bounds = differences.clustered_difference(gains, losses, size, simulated.LEVEL)
    assert found[1:3] == pytest.approx(np.ravel(bounds))


# ---- verdicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "reference", "sign", "verdict"),
    [
        (0.01, 0.2, 0, 1, verdicts.SUPPORTED),
        (-0.2, -0.01, 0, 1, verdicts.CONTRADICTED),
        (-0.01, 0.2, 0, 1, verdicts.OPEN),
        (0.0, 0.2, 0, 1, verdicts.OPEN),
        (-0.2, -0.01, 0, -1, verdicts.SUPPORTED),
        (0.01, 0.2, 0, -1, verdicts.CONTRADICTED),
        (0.6, 0.7, 0.55, 1, verdicts.SUPPORTED),
        (0.6, 0.7, 0.65, -1, verdicts.OPEN),
        (-0.04, 0.01, -0.05, 1, verdicts.SUPPORTED),
    ],
)
def test_a_verdict_follows_from_the_bound_alone(low, high, reference, sign, verdict):
    assert verdicts.judged(Estimate((low + high) / 2, low, high, 9, ""), reference, sign) == verdict


def test_a_conjunction_needs_all_its_parts():
    yes, no, unclear = verdicts.SUPPORTED, verdicts.CONTRADICTED, verdicts.OPEN
    found = {
        parts: verdicts.conjunction(parts) for parts in ((yes, yes), (yes, unclear), (unclear, no))
    }
    assert list(found.values()) == [yes, unclear, no]


def test_a_family_is_judged_at_holms_level():
    strong, middling, weak = (
        (*answers(won, lost, 300), range(300)) for won, lost in ((60, 10), (33, 16), (30, 21))
    )
    found = verdicts.family([weak, strong, middling])
    levels = [round(level, 4) for _, level in found]
    assert levels == [0.95, 0.9833, 0.975]
    assert [verdicts.judged(gap) for gap, _ in found] == ["undecidable at this n"] + [
        "supported"
    ] * 2
    for (gap, level), pair in zip(found, (weak, strong, middling)):
        assert gap == differences.difference(*pair, level)
    p = stats.holm([stats.paired_test(*pair)[0] for pair in (weak, strong, middling)])
    assert (p < 0.05).tolist() == [False, True, True], "p says the same"


def _normal(value: float, error: float):
    def bounds(level: float) -> Estimate:
        reach = laws.norm.ppf((1 + level) / 2) * error
        return Estimate(value, value - reach, value + reach, 9, "normal")

    return bounds


def test_holms_bounds_decide_as_holms_p_values_do(monkeypatch):
    from statsmodels.stats import multitest

    # It collects garbage in every call, which takes a second in a process that holds PyTorch.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    rng = np.random.default_rng(5)
    for values in rng.normal(2.2, 1, (200, 3)):
        found = verdicts.holm([(_normal(value, 1.0), 0.0) for value in values])
        rejected = multitest.multipletests(2 * laws.norm.sf(abs(values)), 0.05, "holm")[0]
        assert [one[0].low > 0 or one[0].high < 0 for one in found] == rejected.tolist()


def test_a_declared_comparison_without_a_score_stays_in_the_family():
    pair = (*answers(33, 15, 300), range(300))
    assert verdicts.judged(verdicts.family([pair])[0][0]) == verdicts.SUPPORTED
    found = verdicts.family([pair, None, None, None])
    assert found[1:] == [None] * 3 and round(found[0][1], 4) == 0.9875
    assert verdicts.judged(found[0][0]) == verdicts.OPEN


def test_a_family_errs_no_more_often_than_one_comparison():
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(200):
        balanced = rng.binomial(80, 0.5, 3)
        pairs = [(*answers(int(won), 80 - int(won), 325), range(325)) for won in balanced]
        wrong += any(verdicts.judged(gap) != verdicts.OPEN for gap, _ in verdicts.family(pairs))
    assert 0 < wrong <= 19, "5 % of 200, and three standard errors"


def test_a_constant_model_is_one_with_one_letter():
    assert verdicts.is_constant([0] * 95 + [1] * 5) and not verdicts.is_constant([0] * 94 + [1] * 6)
    assert verdicts.is_constant([2.0, float("nan"), None, 2.0]) and not verdicts.is_constant([])


def test_a_constant_model_may_still_rank_the_right_option_high():
    scores = [[-1.0, -2.0, -3.0, -4.0], [-1.0, -2.0, -3.0, -4.0], None, [-1.0, -1.0]]
    assert verdicts.mean_rank(scores, [1, 3, 0, 0]) == pytest.approx((2 + 4 + 1.5) / 3)
    assert math.isnan(verdicts.mean_rank([None], [0]))


def test_ranks_are_the_same_one_by_one_and_together():
    rng = np.random.default_rng(0)
    scores, gold = [], []
    for size in rng.integers(0, 7, 500):
        scores.append(rng.integers(-4, 0, size).tolist() or None)
        gold.append(int(rng.integers(0, 5)))
    scores[7], scores[8] = np.array([-1.0, float("nan")]), (-2.0, -2.0, -1.0)
    alone = [verdicts.mean_rank([options], [right]) for options, right in zip(scores, gold)]
    read = [rank for rank in alone if not math.isnan(rank)]
    assert 250 < len(read) < 500 and verdicts.mean_rank(scores, gold) == float(np.mean(read))


# ---- over runs ---------------------------------------------------------------------------------


def test_a_mean_over_worlds_has_the_t_interval_of_scipy():
    values = np.random.default_rng(6).normal(40, 7, 8)
    found = spread.over_runs(values)
    theirs = laws.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found[1:3] == pytest.approx((theirs.low, theirs.high))
    assert (found.n, found.sd) == (8, pytest.approx(values.std(ddof=1)))
    half = laws.t.ppf(0.975, 7) * found.sd * math.sqrt(1 + 1 / 8)
    assert (found.next_low, found.next_high) == pytest.approx(
        (values.mean() - half, values.mean() + half)
    )
    assert half / found.sd == pytest.approx(17.6 / 7, rel=0.01)  # an SD of 7 points: +- 17.6


def test_one_more_run_lies_within_the_prediction_in_about_95_of_100():
    rng, hits = np.random.default_rng(7), 0
    for _ in range(1000):
        base = rng.normal(0, 5, 9).repeat(2) + rng.normal(0, 4, 18)  # two tuning seeds a world
        found = spread.over_runs(base[:16], world=np.arange(8).repeat(2))
        hits += found.next_low <= base[16] <= found.next_high
    assert hits / 1000 == pytest.approx(0.95, abs=0.02)


def test_seeds_of_one_world_are_averaged_first():
    values, world = [1, 3, 5, 7, 6, 8], ["a", "a", "b", "b", "c", "c"]
    assert spread.over_runs(values, world=world)[:4] == spread.over_runs([2, 6, 7])[:4]
    assert verdicts.judged(spread.over_runs([40, 44, 39, 42]), 10) == verdicts.SUPPORTED
    with pytest.raises(ValueError, match="1 worlds have no spread .* at least 2"):
        spread.over_runs(values, world=["a"] * 6)
