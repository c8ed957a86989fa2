"""Learning-rate schedules: finished steps -> factor of the peak rate."""

import math
from collections.abc import Callable
from typing import Literal

ScheduleKind = Literal["constant", "linear", "cosine"]


def schedule(kind: ScheduleKind, *, steps: int, warmup: float = 0.0) -> Callable[[int], float]:
    """The factor for the update after `step` finished ones (0-based), in (0, 1] until the end.

    Args:
        kind: after the warm-up the factor stays 1, falls linearly to 0, or as a half cosine.
        steps: updates in the whole run.
        warmup: share of the steps in which the factor rises linearly to 1.
    """
    rise = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = (step - rise) / max(steps - rise, 1)
        if kind == "constant":
            return 1.0
        if kind == "linear":
            return max(0.0, 1.0 - done)
        return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))

    return factor
