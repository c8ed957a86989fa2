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
