"""Which word an interval gives, at each of its boundaries: helps, does not, cannot tell yet."""

import math

import pytest

from rekindle.evals.compare import Difference
from rekindle.study.analyse.verdicts import CANNOT_TELL, DOES_NOT, HELPS, verdict_of

TINY = 1e-12


def verdict(low, high, n_pairs=2, **how):
    difference = Difference((low + high) / 2, low, high, 0.5, 0.0, 0.0, 9, n_pairs)
    return verdict_of(difference, **{"meaningful": 0.01, **how})


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (TINY, 0.5, HELPS),  # all of it above 0
        (0.0, 0.5, CANNOT_TELL),  # it touches 0
        (-TINY, 0.5, CANNOT_TELL),
        (TINY, 0.005, HELPS),  # above 0, though smaller than what matters
        (-0.5, 0.01 - TINY, DOES_NOT),  # all of it below what matters
        (-0.5, 0.01, CANNOT_TELL),  # it touches what matters
        (-0.5, -0.1, DOES_NOT),
        (0.0, 0.0, DOES_NOT),  # arms that do the same
        (math.nan, math.nan, CANNOT_TELL),
        (-math.inf, 0.001, CANNOT_TELL),  # no bound
        (0.1, math.inf, CANNOT_TELL),
    ],
)
def test_the_word_of_an_interval(low, high, word):
    assert verdict(low, high) == word
    assert verdict(low, high, n_pairs=1) == CANNOT_TELL
    # Where less is better the mirrored interval has the same word.
    assert verdict(-high, -low, lower_is_better=True) == word


def test_with_nothing_declared_to_matter_0_is_the_boundary():
    assert verdict(-0.5, -TINY, meaningful=0.0) == DOES_NOT
    assert verdict(-0.5, 0.0, meaningful=0.0) == CANNOT_TELL
