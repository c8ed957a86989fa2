"""The little drawings of intervals beside their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rekindle.report.verdict import VerdictRow
from rekindle.report.words import nice_step

_HALF = 84  # units from the middle to the end


class Whisker(NamedTuple):
    """A change and its interval in the units of the drawing; None: nothing to draw."""

    low: float
    value: float
    high: float


def whiskers(
    rows: Sequence[VerdictRow], *, by_metric: bool = False
) -> Callable[[VerdictRow], Whisker | None]:
    """Each row's interval as a drawing, all on one scale, or those of each metric on one."""
    reach: dict[str, float] = {}
    for row in rows:
        for end in (row.change.low, row.change.high) if row.change else ():
            if end is not None:
                scale = row.metric if by_metric else ""
                reach[scale] = max(reach.get(scale, 0.0), abs(end))

    def place(row: VerdictRow) -> Whisker | None:
        change = row.change
        if change is None or change.low is None or change.value is None or change.high is None:
            return None
        most = nice_step(reach[row.metric if by_metric else ""])
        ends = (change.low, change.value, change.high)
        return Whisker(*(round(100 + _HALF * end / most, 1) for end in ends))

    return place
