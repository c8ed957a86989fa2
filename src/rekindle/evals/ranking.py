"""How well a reward model tells right from wrong, with intervals: bootstrap over problems.

Answers to one problem are not independent, so whole problems are drawn again. Undefined is nan:
an AUC needs right and wrong answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rekindle.evals.intervals import LEVEL, Interval
from rekindle.ops.ranking import auc, group_auc

RESAMPLES = 500


def auc_interval(
    score: Sequence[float],
    right: Sequence[float],
    problem: Sequence[str],
    *,
    within: bool = False,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """AUC of scores against verdicts, with a percentile bootstrap interval.

    Args:
        score, right, problem: one entry an answer; nan takes it out.
        within: only pairs of answers to the same problem count.

    Returns:
        `n` is the number of problems; bounds are nan when most resamples have no AUC.
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
        point = group_auc(score_N, right_N, problem)
    else:
        point = auc(score_N, right_N)
    rng = np.random.default_rng(seed)
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
    if len(groups) < 2 or len(usable) < RESAMPLES / 2:
        return Interval(point, np.nan, np.nan, len(groups))
    tail = (1 - level) / 2
    low, high = np.quantile(usable, [tail, 1 - tail])
    return Interval(point, float(low), float(high), len(groups))
