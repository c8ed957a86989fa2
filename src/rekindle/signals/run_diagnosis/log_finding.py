"""One thing that a log tells: a number with its interval, its n, what it rests on, and a sentence.

Intervals are 95 %. Rows of one prompt hang together: intervals are over prompts, all groups of a
prompt one unit. Nothing here loads torch or scipy's statistics: a log of a gigabyte is read in
seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEVEL = 0.95


class Estimate(NamedTuple):
    """A number with its 95 % interval, nan where it is undefined; `n` units entered."""

    value: float
    ci_low: float
    ci_high: float
    n: int

    def __str__(self) -> str:
        """`43 % [40, 46]`."""
        if math.isnan(self.value):
            return "undefined"
        if math.isnan(self.ci_low):
            return f"{100 * self.value:.0f} %"
        return f"{100 * self.value:.0f} % [{100 * self.ci_low:.0f}, {100 * self.ci_high:.0f}]"


UNDEFINED = Estimate(math.nan, math.nan, math.nan, 0)


class LogFinding(NamedTuple):
    """What one look at a log gave.

    `rests_on` says which rows entered. A finding on which a cause may rest names its `null`, the
    distribution without that cause, and its `p` where it is a test; the rate of false alarms in
    simulated logs stands in `results/false_alarms.json`.
    """

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    says: str
    rests_on: str
    null: str | None = None
    p: float | None = None

    @classmethod
    def of(
        cls, name: str, estimate: Estimate, says: str, rests_on: str, null: str | None = None
    ) -> LogFinding:
        """An estimate and what it means."""
        return cls(name, *estimate, says, rests_on, null)


def ratio(top_N: Floats, bottom_N: Floats, unit_N: Ints, *, bounded: bool = True) -> Estimate:
    """sum(top) / sum(bottom) with an interval over units: the shares and means of this folder.

    The interval is that of a ratio estimator, with a t quantile of m - 1 degrees of freedom, m the
    units. A share that is 0 or 1 in all of them has the bound that Wilson's interval gives m units.

    Args:
        top_N, bottom_N: [N] what is counted and of what; rows with nan are left out.
        unit_N: [N] what is drawn together: the prompt's number.
        bounded: the ratio is a share of 0 to 1.
    """
    known_N = ~(np.isnan(top_N) | np.isnan(bottom_N))
    units, number_N = np.unique(unit_N[known_N], return_inverse=True)
    m = len(units)
    top_U = np.bincount(number_N, weights=top_N[known_N], minlength=m)
    bottom_U = np.bincount(number_N, weights=bottom_N[known_N], minlength=m)
    total = float(bottom_U.sum())
    if m == 0 or total == 0:
        return UNDEFINED
    value = float(top_U.sum() / total)
    if m == 1:
        return Estimate(value, math.nan, math.nan, 1)
    with np.errstate(over="ignore"):
        squares = float(np.sum((top_U - value * bottom_U) ** 2))
    error = math.sqrt(squares * m / (m - 1)) / total
    half = float(special.stdtrit(m - 1, 0.5 + LEVEL / 2)) * error
    low, high = value - half, value + half
    if bounded:
        bound = rare(m)
        low = max(0.0, min(low, value)) if value > 0 else 0.0
        high = min(1.0, max(high, value)) if value < 1 else 1.0
        low = 1 - bound if value == 1 else low
        high = bound if value == 0 else high
    return Estimate(value, low, high, m)


def rare(m: int) -> float:
    """Wilson's upper bound of a share that was never seen in m draws."""
    z = float(special.ndtri(0.5 + LEVEL / 2))
    return z * z / (m + z * z)


def mean(value_N: Floats, unit_N: Ints, *, bounded: bool = False) -> Estimate:
    """The mean of rows with an interval over units; nan stays out. See `ratio`."""
    return ratio(value_N, np.where(np.isnan(value_N), np.nan, 1.0), unit_N, bounded=bounded)


def difference(
    value_N: Floats, later_N: NDArray[np.bool_], unit_N: Ints, *, least: int = 2
) -> Estimate:
    """The mean of later rows minus that of earlier ones; intervals over units of each side."""
    late, early = (mean(value_N[side], unit_N[side]) for side in (later_N, ~later_N))
    m = min(late.n, early.n)
    if m < least or math.isnan(late.ci_low) or math.isnan(early.ci_low):
        return Estimate(late.value - early.value, math.nan, math.nan, m)
    half = math.hypot(late.ci_high - late.value, early.ci_high - early.value)
    value = late.value - early.value
    return Estimate(value, value - half, value + half, m)


def percent(share: float) -> str:
    """`43 %`, and `0.3 %` where it is small."""
    return f"{100 * share:.1f} %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def rows_text(parts: Sequence[str]) -> str:
    """Several facts as one phrase."""
    return "; ".join(part for part in parts if part)
