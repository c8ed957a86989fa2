"""Tests of differences: exact McNemar for single answers, Holm over several comparisons.

The permutation test of a paired difference is `intervals.sign_flip_p`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from rekindle.evals.intervals import Floats


def mcnemar_p(after: Floats, before: Floats) -> float:
    """Two-sided exact p of McNemar's test on paired 0/1 outcomes (McNemar 1947).

    Under no difference, each problem that changed was as likely to get better as worse: a binomial
    test of one half. nan entries stay out; 1 when nothing changed, nan when nothing is paired.

    Raises:
        ValueError: an outcome is neither 0 nor 1.
    """
    kept = ~(np.isnan(after) | np.isnan(before))
    after, before = after[kept], before[kept]
    if not np.isin(np.concatenate([after, before]), (0.0, 1.0)).all():
        raise ValueError("McNemar's test needs outcomes of 0 or 1, one answer a problem")
    if len(after) == 0:
        return math.nan
    better, worse = int(np.sum(after > before)), int(np.sum(after < before))
    if better + worse == 0:
        return 1.0
    return float(stats.binomtest(better, better + worse, 0.5).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values that keep the chance of any false claim below the level (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, and never falls below a smaller one's. What
    is undefined (None, nan) stays None and is not counted.
    """
    known = [i for i, p in enumerate(p_values) if p is not None and not math.isnan(p)]
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: float(p_values[i] or 0.0))):
        highest = max(highest, min(1.0, (len(known) - rank) * float(p_values[i] or 0.0)))
        adjusted[i] = highest
    return adjusted
