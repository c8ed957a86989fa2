"""Which groups of G answers would have something to compare: shares from K sampled answers.

Of a problem's K answers n_v have the score v. G of them, drawn without replacement, are all equal
to v with chance C(n_v, G) / C(K, G); the mean over problems is unbiased (G up to K).

    all_wrong, all_right    every score is 0; every score is 1
    mixed                   the greatest score is above the least
    tied                    the others' complement: all scores are equal, whatever they are

A missing score may have been anything. Each share therefore has two bounds, of the scores that
would make it least and most; the interval reaches from below the one to above the other, and the
share itself is over the problems with enough scores, nan where there is none.

Axes: P problems, K samples.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from rekindle.evals.intervals import LEVEL, Floats, Interval, cluster, wilson

MANY = 0.1  # of groups without all scores: then it is said beside the shares


class Shares(NamedTuple):
    """Of groups of `size` answers; `lost`: groups with a missing score, of `problems`."""

    size: int
    all_wrong: Interval
    mixed: Interval
    all_right: Interval
    tied: Interval
    lost: int
    problems: int


class _Chance(NamedTuple):
    """One problem's least, likeliest and greatest chance of a kind of group; nan: not known."""

    low: float
    value: float
    high: float


def shares(outcome_PK: Floats, size: int, *, level: float = LEVEL) -> Shares:
    """Shares of groups of `size` answers, `size` up to K; intervals at `level`."""
    rows = [_of_problem(row, size) for row in outcome_PK]
    wrong, right, tied = ([row[i] for row in rows] for i in range(3))
    mixed = [_Chance(1 - c.high, 1 - c.value, 1 - c.low) for c in tied]
    lost = int(np.isnan(outcome_PK).any(axis=1).sum())
    return Shares(
        size,
        all_wrong=_interval(wrong, level),
        mixed=_interval(mixed, level),
        all_right=_interval(right, level),
        tied=_interval(tied, level),
        lost=lost,
        problems=len(outcome_PK),
    )


def _of_problem(scores: Floats, size: int) -> tuple[_Chance, _Chance, _Chance]:
    """Chances of all wrong, all right, all equal."""
    known = Counter(float(score) for score in scores if not math.isnan(score))
    total, there = len(scores), sum(known.values())
    lost, ways = total - there, math.comb(len(scores), size)

    def chance(least: int, most: int, seen: int) -> _Chance:
        low, high = least / ways, most / ways
        enough = there >= size
        value = seen / math.comb(there, size) if enough else math.nan
        return _Chance(low, value, high)

    def of(score: float) -> _Chance:
        n = known.get(score, 0)
        return chance(math.comb(n, size), math.comb(n + lost, size), math.comb(n, size))

    equal = sum(math.comb(n, size) for n in known.values())
    # Most are equal when all that is missing has the commonest score, fewest when all differ.
    top = max(known.values(), default=0)
    most = equal - math.comb(top, size) + math.comb(top + lost, size)
    return of(0.0), of(1.0), chance(equal, most, equal)


def _interval(chances: list[_Chance], level: float) -> Interval:
    n = len(chances)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, value, high = (np.array(column) for column in zip(*chances, strict=True))
    if np.array_equal(low, high):
        return _mean(low, level)
    known = value[~np.isnan(value)]
    middle = float(known.mean()) if len(known) else math.nan
    return Interval(middle, _mean(low, level).ci_low, _mean(high, level).ci_high, n)


def _mean(values_P: Floats, level: float) -> Interval:
    """A proportion where each problem's chance is 0 or 1."""
    if np.isin(values_P, (0.0, 1.0)).all():
        return wilson(float(values_P.sum()), len(values_P), level=level)
    return cluster(values_P, level=level)
