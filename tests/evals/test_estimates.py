"""pass@k and paired differences from plain lists: the same numbers as eval.json's."""

import itertools
import math

import numpy as np
import pytest
import torch

from rekindle.errors import DataError
from rekindle.evals import passk
from rekindle.evals.estimates import paired_difference, pass_at_k
from rekindle.evals.intervals import cluster, paired

TABLE = [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_it_is_the_mean_over_problems_with_their_interval(k):
    found = pass_at_k(TABLE, k)
    assert found == cluster(passk.pass_at_k(np.array(TABLE, dtype=float), k))
    brute = [np.mean([any(draw) for draw in itertools.combinations(row, k)]) for row in TABLE]
    assert found.value == pytest.approx(np.mean(brute))
    assert float(found) == found.value
    assert found.ci_low <= found.value <= found.ci_high
    assert found.n == 4


def test_problems_may_have_other_numbers_of_samples_and_missing_scores():
    ragged = pass_at_k([[1, 0], [None, 0, 1], [1]], 2)
    assert ragged.n == 2  # the third has one sample
    assert ragged.value == pass_at_k([[1, 0], [0, 1]], 2).value == 1.0


def test_a_flat_list_is_one_problem_and_has_no_interval():
    found = pass_at_k([1, 0, 0, 1], 2)
    assert found.value == pytest.approx(5 / 6)
    assert found.n == 1
    assert math.isnan(found.ci_low)


def test_undefined_is_nan():
    assert math.isnan(pass_at_k([[1, 0]], 3).value)
    assert math.isnan(pass_at_k([], 1).value)
    assert math.isnan(paired_difference([None], [1]).value)


def test_arrays_and_tensors_are_taken():
    wanted = pass_at_k(TABLE, 2)
    assert pass_at_k(np.array(TABLE), 2) == pass_at_k(torch.tensor(TABLE), 2) == wanted


def test_a_difference_is_a_minus_b_in_pairs():
    a, b = [1, 0, 1, 1, 0, 1, 1, 1], [0, 0, 1, 0, 0, 0, 1, 0]
    found = paired_difference(a, b)
    assert found == paired(np.array(a, dtype=float), np.array(b, dtype=float))
    assert found.value == pytest.approx(0.5)
    assert found.n == 8


def test_samples_are_averaged_within_a_problem_first():
    found = paired_difference([[1, 0], [1]], [[0, 0], [1, 1, 1]])
    assert found.value == pytest.approx((0.5 + 0.0) / 2)


def test_missing_problems_leave_the_pair_out():
    assert paired_difference([1, None, 0], [0, 1, None]).n == 1


def test_a_run_beside_itself_differs_by_nothing():
    a = [1, 0, 1]
    assert paired_difference(a, a)[:3] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pass_at_k([[1]], 0), "not a count"),
        (lambda: pass_at_k([[1]], 1.5), "not a count"),
        (lambda: pass_at_k("10", 1), "finite numbers"),
        (lambda: pass_at_k([["x"]], 1), "finite numbers"),
        (lambda: pass_at_k([[[1]]], 1), "one list of numbers a problem"),
        (lambda: pass_at_k(1, 1), "single number"),
        (lambda: paired_difference([1], [1, 0]), "1 and 2"),
    ],
)
def test_what_is_no_table_of_outcomes_is_refused(call, says):
    with pytest.raises(DataError, match=says):
        call()
