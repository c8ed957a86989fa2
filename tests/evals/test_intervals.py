"""Intervals: independent oracles, coverage by simulation, and honesty at the edges."""

import math

import numpy as np
import pytest
from scipy import stats

from rekindle.evals.intervals import cluster, hierarchical, paired, sign_flip_p, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (47, 200), (1, 1)])
def test_wilson_is_scipys(successes, n):
    want = stats.binomtest(successes, n).proportion_ci(method="wilson")
    got = wilson(successes, n)
    assert (got.ci_low, got.ci_high) == pytest.approx((want.low, want.high), abs=1e-12)


def coverage(interval, draw, truth, rounds=1200):
    hits = 0
    for i in range(rounds):
        found = interval(draw(np.random.default_rng(i)), i)
        hits += found.ci_low <= truth <= found.ci_high
    return hits / rounds


@pytest.mark.parametrize("problems", [50, 150])
def test_cluster_bootstrap_covers_the_mean_of_per_problem_accuracies(problems):
    """8 samples a problem, accuracies from a Beta(0.6, 1.4): skewed, as hard problems are."""

    def draw(rng):
        return rng.binomial(8, rng.beta(0.6, 1.4, problems)) / 8

    found = coverage(lambda values, i: cluster(values, seed=i), draw, 0.3)
    assert 0.93 <= found <= 0.97


@pytest.mark.parametrize("problems", [50, 150])
def test_paired_difference_covers(problems):
    def draw(rng):
        before = rng.beta(0.6, 1.4, problems)
        after = np.clip(before + 0.1, 0, 1)
        return rng.binomial(8, after) / 8, rng.binomial(8, before) / 8

    truth = float(np.mean(np.clip(stats.beta(0.6, 1.4).rvs(400_000, random_state=1) + 0.1, 0, 1)))
    truth -= 0.3
    found = coverage(lambda both, i: paired(*both, seed=i), draw, truth)
    assert 0.93 <= found <= 0.975


def test_hierarchical_covers_when_pairs_differ():
    """8 base models whose true gains scatter around 0.1, 60 problems each."""

    def draw(rng):
        gains = rng.normal(0.1, 0.05, 8)
        return [rng.normal(gain, 0.3, 60) for gain in gains]

    found = coverage(lambda pairs, i: hierarchical(pairs, seed=i), draw, 0.1, rounds=600)
    assert 0.93 <= found <= 0.99  # problems are resampled within pairs too: on the safe side


def test_cluster_is_close_to_scipys_studentised_width():
    values = np.random.default_rng(0).beta(2, 2, 150)
    found = cluster(values, seed=0)
    want = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(1))
    assert found.ci_low == pytest.approx(want.confidence_interval.low, abs=0.006)
    assert found.ci_high == pytest.approx(want.confidence_interval.high, abs=0.006)


def test_a_long_tail_above_makes_the_arm_above_the_longer_one():
    """What sets the studentised bootstrap apart: percentiles turned round have it below."""
    values = np.random.default_rng(0).exponential(0.2, 60).clip(max=1)
    found = cluster(values)
    assert found.ci_high - found.value > 1.1 * (found.value - found.ci_low)
    mirrored = cluster(1 - values)
    assert mirrored.value - mirrored.ci_low > 1.1 * (mirrored.ci_high - mirrored.value)


def test_two_pairs_are_widened_by_the_root_of_two():
    """Gains of 0.1 and 0.3, hardly any spread within: draws reach 0.1 to 0.3, the interval 0.2 +-
    0.1 sqrt(2)."""
    noise = np.random.default_rng(0).normal(0, 1e-3, 40)
    found = hierarchical([0.1 + noise, 0.3 - noise])
    assert found.value == pytest.approx(0.2, abs=1e-3)
    half = 0.1 * math.sqrt(2)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.2 - half, 0.2 + half), abs=3e-3)


def test_a_run_paired_with_itself_differs_by_nothing():
    values = np.random.default_rng(0).random(40)
    assert paired(values, values)[:3] == (0.0, 0.0, 0.0)


def test_two_runs_that_agree_on_few_problems_are_not_the_same_run():
    """Four of four: up to 0.49 of all problems could differ, says Wilson."""
    right = np.array([1.0, 0.0, 1.0, 1.0])
    found = paired(right, right.copy())
    assert found.value == 0
    assert found.ci_high == -found.ci_low == pytest.approx(wilson(0, 4).ci_high)


def test_pairs_that_agree_everywhere_are_not_certain():
    for same in (0.0, 0.01):
        found = hierarchical([np.full(8, same)] * 3)
        assert found.value == pytest.approx(same)
        assert found.ci_low < -0.05 < 0.05 < found.ci_high


def test_swapping_the_arms_turns_the_sign():
    rng = np.random.default_rng(0)
    a, b = rng.random(60), rng.random(60)
    one, other = paired(a, b), paired(b, a)
    assert one.value == pytest.approx(np.mean(a) - np.mean(b))  # what came after, less what was
    assert one.value == pytest.approx(-other.value)
    assert one.ci_low == pytest.approx(-other.ci_high, abs=0.01)


def test_the_bootstrap_is_seeded_and_ignores_order():
    values = np.random.default_rng(0).random(40)
    assert cluster(values, seed=3) == cluster(values, seed=3)
    turned = cluster(values[::-1], seed=3)
    assert turned.ci_low == pytest.approx(cluster(values, seed=3).ci_low, abs=0.01)


def test_undefined_is_nan_and_never_certain():
    assert all(math.isnan(x) for x in cluster(np.array([]))[:3])
    one = cluster(np.array([0.5]))
    assert one.value == 0.5
    assert math.isnan(one.ci_low)
    assert math.isnan(one.ci_high)
    allright = cluster(np.ones(20))
    assert allright.ci_high == 1.0
    assert allright.ci_low < 0.9  # twenty agreements are not certainty
    assert cluster(np.array([0.2, math.nan, 0.4])).n == 2


def test_a_single_right_answer_does_not_make_a_narrow_interval():
    values = np.zeros(80)
    values[3] = 0.25
    found = cluster(values)
    assert found.ci_low == 0.0
    assert found.ci_high > wilson(0, 80).ci_high
    gain = paired(values, np.zeros(80))
    assert gain.ci_low < 0 < gain.ci_high
    assert gain.ci_high > 0.03


def test_where_few_differ_each_bound_knows_how_many_differ_on_its_side():
    """Of 80 problems three got better and one worse: Wilson's shares of 3 and of 1."""
    change = np.zeros(80)
    change[:3], change[3] = 1.0, -1.0
    found = cluster(change, bounds=(-1.0, 1.0))
    assert found.ci_low == pytest.approx(-wilson(1, 80).ci_high)
    assert found.ci_high == pytest.approx(wilson(3, 80).ci_high)


def test_patterns_as_extreme_as_what_was_seen_count():
    """Of 2^3 sign patterns two have a sum as far from 0; a problem without a change has no say."""
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, 0.0])) == 2 / 8
    assert sign_flip_p(np.array([0.5, -0.5])) == 1.0
    assert sign_flip_p(np.array([3.0, 1.0, -1.0])) == 6 / 8


def test_permutation_p_is_scipys():
    rng = np.random.default_rng(0)
    for size in (8, 40):
        difference = rng.normal(0.2, 0.5, size)
        want = stats.permutation_test(
            (difference, np.zeros(size)),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            n_resamples=20_000,
            rng=np.random.default_rng(1),
        )
        assert sign_flip_p(difference) == pytest.approx(want.pvalue, abs=0.01)
    assert sign_flip_p(np.zeros(5)) == 1.0
    assert math.isnan(sign_flip_p(np.array([math.nan])))
