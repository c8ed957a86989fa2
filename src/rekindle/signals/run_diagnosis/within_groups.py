"""Sums, centred values, ranks and correlations within the groups of a log, without a loop.

Axes: N rows of the log, K those that entered, P their groups.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rekindle.signals.logs.run_log import RunLog
from rekindle.signals.run_diagnosis.log_finding import LEVEL, UNDEFINED, Estimate, Floats, Ints

Bools = NDArray[np.bool_]
MOST = float(np.finfo(np.float32).max)
EQUAL = 1e-6  # rewards of a group that differ by less, relative to its largest, are equal: float32


class Groups(NamedTuple):
    """Rows of training by group.

    Attributes:
        row_K: their numbers in the log.
        group_K: number of each row's group, 0 to P - 1 without gaps.
        size_P: rows of each group.
        prompt_P: its prompt.
    """

    row_K: Ints
    group_K: Ints
    size_P: Ints
    prompt_P: Ints

    def __len__(self) -> int:
        return len(self.size_P)

    @property
    def prompt_K(self) -> Ints:
        """The prompt of each row."""
        return self.prompt_P[self.group_K]

    def sum(self, value_K: Floats | Bools | Ints) -> Floats:
        """[P] sums."""
        sums_P = np.bincount(self.group_K, weights=value_K, minlength=len(self))
        return sums_P.astype(np.float64, copy=False)

    def centred(self, value_K: Floats) -> Floats:
        """[K] values minus the mean of their group."""
        return np.asarray(value_K - (self.sum(value_K) / self.size_P)[self.group_K])

    def span(self, value_K: Floats) -> tuple[Floats, Floats]:
        """[P] the least and the greatest value."""
        low_P, high_P = np.full(len(self), np.inf), np.full(len(self), -np.inf)
        np.minimum.at(low_P, self.group_K, value_K)
        np.maximum.at(high_P, self.group_K, value_K)
        return low_P, high_P

    def has_spread(self, value_K: Floats) -> Bools:
        """[P] whether values differ by more than the rounding of float32."""
        low_P, high_P = self.span(value_K)
        return np.asarray(high_P - low_P > EQUAL * np.maximum(np.abs(low_P), np.abs(high_P)))

    def only(self, kept_P: Bools) -> Groups:
        """The rows of some groups."""
        kept_K = kept_P[self.group_K]
        number_P = np.cumsum(kept_P) - 1
        return Groups(
            self.row_K[kept_K],
            number_P[self.group_K[kept_K]],
            self.size_P[kept_P],
            self.prompt_P[kept_P],
        )


def groups_of(log: RunLog, *known: Floats, where_N: Bools | None = None) -> Groups:
    """The rows of training of which all the columns are known, in groups of two and more.

    Args:
        known: [N] columns; a row with nan, or with more than float32 holds, in one of them stays
            out.
        where_N: [N] further rows that stay out where it is false.
    """
    kept_N = log.data_N if where_N is None else log.data_N & where_N
    for column_N in known:
        kept_N = kept_N & (np.abs(column_N) < MOST)
    row_K = np.flatnonzero(kept_N)
    count_P = np.bincount(log.group_N[row_K], minlength=1)
    number_P = np.cumsum(count_P > 0) - 1
    group_K = number_P[log.group_N[row_K]]
    size_P = count_P[count_P > 0]
    prompt_P = np.zeros(len(size_P), dtype=np.int64)
    prompt_P[group_K] = log.prompt_N[row_K]
    groups = Groups(row_K, group_K, size_P, prompt_P)
    return groups.only(size_P > 1)


def usable(column_N: Floats) -> Floats:
    """[N] the same, nan where it is more than float32 holds: no trainer computes with that."""
    return np.where(np.abs(column_N) < MOST, column_N, np.nan)


def ranks(value_K: Floats, group_K: Ints) -> Floats:
    """[K] the rank of each value in its group from 1, ties at the middle of theirs."""
    count = len(value_K)
    if not count:
        return np.zeros(0)
    order = np.lexsort((value_K, group_K))
    value, group = value_K[order], group_K[order]
    new = np.r_[True, (value[1:] != value[:-1]) | (group[1:] != group[:-1])]
    start = np.flatnonzero(new)
    middle = (start + np.append(start[1:], count) - 1) / 2
    first_of_group = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    sizes = np.diff(np.append(first_of_group, count))
    rank = middle[np.cumsum(new) - 1] - np.repeat(first_of_group, sizes) + 1
    rank_K = np.empty(count)
    rank_K[order] = rank
    return rank_K


class Correlation(NamedTuple):
    """A correlation within groups, and its standard deviation where nothing is related."""

    estimate: Estimate
    by_chance: float


def correlation(groups: Groups, x_K: Floats, y_K: Floats) -> Correlation:
    """Pearson's correlation of what is left when each group's mean is taken away.

    The interval is the delta method's over prompts, on Fisher's scale, with a t quantile. By
    chance: the standard deviation of the correlation when the answers of each group are exchanged,
    sum_p(xx_p yy_p / (n_p - 1)) / (xx yy).
    """
    x_K, y_K = groups.centred(x_K), groups.centred(y_K)
    xy_P, xx_P, yy_P = (groups.sum(product) for product in (x_K * y_K, x_K * x_K, y_K * y_K))
    xy, xx, yy = float(xy_P.sum()), float(xx_P.sum()), float(yy_P.sum())
    if not xx * yy > 0:
        return Correlation(UNDEFINED, math.nan)
    scale = math.sqrt(xx * yy)
    by_chance = math.sqrt(float((xx_P * yy_P / (groups.size_P - 1)).sum())) / scale
    value = max(-1.0, min(1.0, xy / scale))
    pull_P = xy_P / scale - value / 2 * (xx_P / xx + yy_P / yy)
    units, unit_P = np.unique(groups.prompt_P[(xx_P > 0) | (yy_P > 0)], return_inverse=True)
    pull_U = np.bincount(unit_P, weights=pull_P[(xx_P > 0) | (yy_P > 0)])
    m = len(units)
    if m < 2:
        return Correlation(Estimate(value, math.nan, math.nan, m), by_chance)
    if 1 - value * value < 1e-12:
        return Correlation(Estimate(value, value, value, m), by_chance)
    error = math.sqrt(float((pull_U**2).sum()) * m / (m - 1)) / (1 - value * value)
    half = t_quantile(m - 1) * error
    middle = math.atanh(value)
    low, high = math.tanh(middle - half), math.tanh(middle + half)
    return Correlation(Estimate(value, low, high, m), by_chance)


def t_quantile(degrees: float) -> float:
    """The upper end of the central 95 % of Student's t."""
    return float(special.stdtrit(degrees, 0.5 + LEVEL / 2))


def binary(value_N: Floats) -> Floats | None:
    """[N] 0 and 1 for a column of two values, the greater is 1; None where it has others."""
    known = value_N[~np.isnan(value_N)]
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    if low == high or not np.all((known == low) | (known == high)):
        return None
    return np.where(np.isnan(value_N), np.nan, (value_N == high).astype(np.float64))
