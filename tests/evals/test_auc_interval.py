"""Intervals of an AUC: bootstrap over problems."""

import math

import numpy as np
import pytest

from rekindle.evals.ranking import auc_interval


def world(rng, problems=60, answers=8):
    """Answers whose score is their verdict plus a problem's own shift plus noise."""
    rows = []
    for p in range(problems):
        shift, ability = rng.normal(), rng.uniform(0.1, 0.6)
        for _ in range(answers):
            right = float(rng.random() < ability)
            rows.append((right + 0.5 * shift + rng.normal(), right, str(p)))
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("within", [False, True])
def test_the_interval_holds_the_value_of_a_very_large_sample(within):
    """40 draws of 60 problems: 95 % intervals hold the truth at least 32 times (p < 1e-3)."""
    truth = auc_interval(*world(np.random.default_rng(99), 3000), within=within).value
    held = 0
    for seed in range(40):
        found = auc_interval(*world(np.random.default_rng(seed)), within=within)
        held += found.ci_low <= truth <= found.ci_high
    assert held >= 32


def test_more_problems_narrow_it_and_the_seed_repeats_it():
    few = auc_interval(*world(np.random.default_rng(0), 20))
    many = auc_interval(*world(np.random.default_rng(0), 500))
    assert many.ci_high - many.ci_low < (few.ci_high - few.ci_low) / 2
    assert auc_interval(*world(np.random.default_rng(0), 20)) == few


def test_undefined_is_nan():
    assert math.isnan(auc_interval([1.0, 2.0], [1.0, 1.0], ["a", "b"]).value)
    empty = auc_interval([], [], [])
    assert math.isnan(empty.value)
    assert empty.n == 0
    alone = auc_interval([1.0, 2.0], [0.0, 1.0], ["a", "a"])
    assert alone.value == 1.0
    assert math.isnan(alone.ci_low)


def test_missing_scores_take_their_answers_out():
    found = auc_interval([math.nan, 2.0, 1.0, 3.0], [1.0, 1.0, 0.0, math.nan], list("abcd"))
    assert found.value == 1.0
    assert found.n == 2


def rare(rng, holding, problems=30, answers=4):
    """Scores that know nothing; `holding` problems have one right answer each."""
    right = np.zeros((problems, answers))
    right[:holding, 0] = 1
    score = rng.normal(size=(problems, answers)) + 0.5 * rng.normal(size=(problems, 1))
    names = [str(p) for p in range(problems) for _ in range(answers)]
    return score.ravel().tolist(), right.ravel().tolist(), names


@pytest.mark.parametrize("holding", [2, 3, 5, 8])
def test_few_right_answers_do_not_make_noise_look_useful(holding):
    """Of 40 draws, 95 % intervals lie above 0.6 in none but one, and hold 0.5 in at least 34 (the
    chance of fewer is 0.003): percentiles alone were above 0.6 in up to a sixth, held in 30."""
    rng = np.random.default_rng(holding)
    found = [auc_interval(*rare(rng, holding)) for _ in range(40)]
    assert sum(f.ci_low > 0.6 for f in found) <= 1
    assert sum(f.ci_low <= 0.5 <= f.ci_high for f in found) >= 34


def test_one_problem_with_a_right_answer_has_no_interval():
    found = auc_interval(*rare(np.random.default_rng(0), 1))
    assert 0 < found.value < 1
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)


def test_a_perfect_order_of_few_problems_is_not_certain():
    """Wilson: four of four has the lower bound 0.51."""
    score = [float(right) for _ in range(4) for right in (0, 1)]
    names = [str(p) for p in range(4) for _ in range(2)]
    for within in (False, True):
        found = auc_interval(score, score, names, within=within)
        assert (found.value, found.ci_high) == (1, 1)
        assert found.ci_low == pytest.approx(0.5101, abs=1e-4)
