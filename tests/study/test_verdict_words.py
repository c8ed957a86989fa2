"""The truth table of a study's three words, at every boundary of an interval.

`meaningful` is 0.02 throughout. A bound is written beside what it touches: `ABOVE` is the next
number above, `BELOW` the next below, so that `<` for `<=` changes a row.
"""

import math

import pytest

from rekindle.evals.compare import Difference
from rekindle.study.analyse.verdicts import CANNOT_TELL, DOES_NOT, HELPS, verdict_of

M = 0.02
JUST_BELOW_0, JUST_ABOVE_0 = -5e-324, 5e-324
JUST_BELOW_M, JUST_ABOVE_M = math.nextafter(M, 0.0), math.nextafter(M, 1.0)
INF, NAN = math.inf, math.nan


def verdict(low, high, *, n_pairs=6, meaningful=M, **kinds):
    value = (low + high) / 2
    found = Difference(value, low, high, 0.5, 0.4, 0.4 + value, 100, n_pairs)
    return verdict_of(found, meaningful=meaningful, **kinds)


TABLE = [
    # the lower bound against 0, the upper one far above: strictly above 0 helps
    (JUST_BELOW_0, 0.5, CANNOT_TELL),
    (-0.0, 0.5, CANNOT_TELL),
    (0.0, 0.5, CANNOT_TELL),
    (JUST_ABOVE_0, 0.5, HELPS),
    # the upper bound against what matters, 0 inside: strictly below it does not help
    (-0.1, JUST_BELOW_M, DOES_NOT),
    (-0.1, M, CANNOT_TELL),
    (-0.1, JUST_ABOVE_M, CANNOT_TELL),
    (0.0, JUST_BELOW_M, DOES_NOT),
    (0.0, M, CANNOT_TELL),
    # the upper bound against 0 is no boundary: below what matters is enough
    (-0.1, JUST_BELOW_0, DOES_NOT),
    (-0.1, 0.0, DOES_NOT),
    (-0.1, JUST_ABOVE_0, DOES_NOT),
    (-0.2, -0.1, DOES_NOT),
    # above 0 and too small to matter: it helps, and `why` says that it is small
    (JUST_ABOVE_0, JUST_BELOW_M, HELPS),
    (JUST_ABOVE_0, M, HELPS),
    (M, 0.5, HELPS),
    # no width at all
    (0.0, 0.0, DOES_NOT),
    (JUST_ABOVE_0, JUST_ABOVE_0, HELPS),
    (M, M, HELPS),
    (-M, -M, DOES_NOT),
]


@pytest.mark.parametrize(("low", "high", "word"), TABLE)
def test_the_word_of_an_interval(low, high, word):
    assert verdict(low, high) == word


@pytest.mark.parametrize(("low", "high", "word"), TABLE)
def test_the_word_where_less_is_better_is_that_of_the_mirrored_interval(low, high, word):
    assert verdict(-high, -low, lower_is_better=True) == word


def test_less_is_better_turns_the_words_round():
    """Not symmetric: with both signs turned the upper bound meets what matters, the lower one 0."""
    assert verdict(-0.3, -0.1) == DOES_NOT
    assert verdict(-0.3, -0.1, lower_is_better=True) == HELPS
    assert verdict(0.1, 0.3) == HELPS
    assert verdict(0.1, 0.3, lower_is_better=True) == DOES_NOT
    assert verdict(-M, 0.5, lower_is_better=True) == CANNOT_TELL
    assert verdict(-JUST_BELOW_M, 0.5, lower_is_better=True) == DOES_NOT
    assert verdict(-0.5, 0.0, lower_is_better=True) == CANNOT_TELL
    assert verdict(-0.5, JUST_BELOW_0, lower_is_better=True) == HELPS


@pytest.mark.parametrize("lower_is_better", [False, True])
@pytest.mark.parametrize(
    ("low", "high"),
    [(NAN, NAN), (NAN, 0.3), (0.1, NAN), (-INF, 0.01), (0.1, INF), (-INF, INF), (-INF, -0.1)],
)
def test_without_two_finite_bounds_there_is_no_word(low, high, lower_is_better):
    assert verdict(low, high, lower_is_better=lower_is_better) == CANNOT_TELL


@pytest.mark.parametrize(("low", "high", "word"), [(0.1, 0.3, HELPS), (-0.3, -0.1, DOES_NOT)])
def test_two_pairs_are_the_fewest_that_decide(low, high, word):
    assert [verdict(low, high, n_pairs=n) for n in (0, 1, 2, 3)] == [CANNOT_TELL] * 2 + [word] * 2


def test_with_nothing_too_small_to_matter_only_a_fall_does_not_help():
    assert verdict(-0.1, JUST_BELOW_0, meaningful=0.0) == DOES_NOT
    assert verdict(-0.1, 0.0, meaningful=0.0) == CANNOT_TELL
    assert verdict(0.0, 0.0, meaningful=0.0) == CANNOT_TELL
    assert verdict(JUST_ABOVE_0, 0.1, meaningful=0.0) == HELPS
