"""How well a reward model tells right from wrong, with intervals: bootstrap over problems.

Answers to one problem are not independent, so whole problems are drawn again. Undefined is nan:
an AUC needs right and wrong answers.

Few problems hold the rarer class, and the percentiles of a bootstrap forget how few: with three of
them, the interval of a score that knows nothing missed 0.5 in one draw of four. So the bootstrap
gives the standard error alone, of the logit of the AUC, which cannot leave 0 to 1, and the interval
is that of a t distribution with m - 1 degrees of freedom, m the problems that hold the rarer class:

    logit(auc) +- t(m - 1) sqrt(m / (m - 1)) sd of the draws
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import special, stats

from rekindle.evals.intervals import LEVEL, Floats, Interval, wilson
from rekindle.ops.ranking import auc, group_auc

RESAMPLES = 500


def auc_interval(
    score: Sequence[float],
    right: Sequence[float],
    problem: Sequence[str],
    *,
    within: bool = False,
) -> Interval:
    """AUC of scores against verdicts, with the interval of the module's text.

    Args:
        score, right, problem: one entry an answer; nan takes it out.
        within: only pairs of answers to the same problem count.

    Returns:
        `n` is the number of problems. Bounds are nan where fewer than two problems hold the rarer
        class (`within`: where fewer than two hold both). An AUC of 1 has the lower bound that
        Wilson gives m successes of m, and one of 0 the upper bound.
    """
    score_N = torch.tensor(score, dtype=torch.float64)
    right_N = torch.tensor(right, dtype=torch.float64)
    known = (~(score_N.isnan() | right_N.isnan())).tolist()
    members: dict[str, list[int]] = {}
    for row, key in enumerate(problem):
        if known[row]:
            members.setdefault(key, []).append(row)
    groups = [torch.tensor(rows) for rows in members.values()]
    if not groups:
        return Interval(np.nan, np.nan, np.nan, 0)
    if within:
        values = [auc(score_N[rows], right_N[rows]) for rows in groups]
        good = np.array([float((right_N[rows] > 0.5).sum()) for rows in groups])
        weight = good * (np.array([len(rows) for rows in groups]) - good)
        wins = np.nan_to_num(np.array(values)) * weight
        point, rarer = group_auc(score_N, right_N, problem), int((weight > 0).sum())
    else:
        point, rights = auc(score_N, right_N), [right_N[rows] > 0.5 for rows in groups]
        rarer = min(sum(bool(r.any()) for r in rights), sum(not bool(r.all()) for r in rights))
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        picks = rng.integers(len(groups), size=len(groups))
        if within:
            total = weight[picks].sum()
            drawn.append(wins[picks].sum() / total if total else np.nan)
        else:
            rows = torch.cat([groups[i] for i in picks])
            drawn.append(auc(score_N[rows], right_N[rows]))
    usable = np.array(drawn)[~np.isnan(drawn)]
    low, high = _bounds(point, usable, rarer)
    return Interval(point, low, high, len(groups))


def _bounds(point: float, drawn: Floats, rarer: int) -> tuple[float, float]:
    if rarer < 2 or len(drawn) < 2:
        return np.nan, np.nan
    if point in (0.0, 1.0):  # no draw differs, and the problems not seen may
        interval = wilson(point * rarer, rarer)
        return interval.ci_low, interval.ci_high
    edge = min(0.001, point / 2, (1 - point) / 2)  # a draw of 0 or 1 has no logit
    spread = float(special.logit(np.clip(drawn, edge, 1 - edge)).std())
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, rarer - 1)) * np.sqrt(rarer / (rarer - 1)) * spread
    centre = float(special.logit(point))
    return float(special.expit(centre - reach)), float(special.expit(centre + reach))
