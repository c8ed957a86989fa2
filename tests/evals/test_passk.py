"""pass@k, avg@k, maj@k against their definitions."""

import itertools
import math

import numpy as np
import pytest

from rekindle.evals.passk import avg_at_k, maj_at_k, pass_at_k

NAN = math.nan


@pytest.mark.parametrize("n", range(1, 7))
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_answer(n):
    for outcomes in itertools.product([0.0, 1.0], repeat=n):
        for k in range(1, n + 1):
            draws = list(itertools.combinations(outcomes, k))
            brute = sum(max(draw) for draw in draws) / len(draws)
            assert pass_at_k(np.array([outcomes]), k)[0] == pytest.approx(brute, abs=1e-12)


def test_pass_at_k_is_undefined_beyond_the_scored_samples():
    table = np.array([[1.0, NAN, NAN], [1.0, 0.0, NAN], [NAN, NAN, NAN]])
    assert np.isnan(pass_at_k(table, 2)).tolist() == [True, False, True]
    assert pass_at_k(table, 1)[:2].tolist() == [1.0, 0.5]


def test_a_partial_score_is_not_right():
    assert pass_at_k(np.array([[0.5, 0.9], [1.0, 0.5]]), 1).tolist() == [0.0, 0.5]
    assert avg_at_k(np.array([[0.5, 1.0]])).tolist() == [0.75]


def test_avg_at_k_leaves_missing_scores_out():
    table = np.array([[1.0, 0.0, NAN], [NAN, NAN, NAN], [0.5, 0.25, 0.75]])
    assert avg_at_k(table)[[0, 2]].tolist() == [0.5, 0.5]
    assert math.isnan(avg_at_k(table)[1])


@pytest.mark.parametrize(
    ("outcomes", "answers", "expected"),
    [
        ([1, 1, 0], ["7", "7", "8"], 1.0),
        ([0, 0, 1], ["8", "8", "7"], 0.0),
        ([1, 0], ["7", "8"], 0.5),  # a tie shares the credit
        ([1, 0, 0], ["7", None, None], 1.0),  # no answer, no vote
        ([0, 0], [None, None], NAN),
        ([NAN, 1, 0], ["7", "7", "8"], 1.0),
        ([NAN, NAN, 0], ["7", "7", "8"], NAN),
    ],
)
def test_majority(outcomes, answers, expected):
    got = maj_at_k(np.array([outcomes], dtype=float), [answers])[0]
    assert got == pytest.approx(expected, nan_ok=True)


def test_majority_does_not_depend_on_the_order_of_samples():
    rng = np.random.default_rng(0)
    for _ in range(50):
        answers = rng.choice(["1", "2", "3"], size=7).tolist()
        outcomes = np.array([float(a == "1") for a in answers])
        order = rng.permutation(7)
        one = maj_at_k(outcomes[None], [answers])[0]
        other = maj_at_k(outcomes[order][None], [[answers[i] for i in order]])[0]
        assert one == pytest.approx(other)
