"""What the credit of a rollout batch was like: numbers that tell how a method is doing.

Axes: P problems, G answers a problem, N rows.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rekindle.ops.groups import Credit, ScoredRows, group_rows


def penalty_facts(rows: ScoredRows, earned: Credit) -> dict[str, float]:
    """LENS: how large penalties are, and whether all-wrong groups push towards longer answers."""
    penalty_N = earned.columns["penalty"][rows.correct_N < 1]
    negative_N = torch.tensor([name == "all_wrong" for name in earned.group_class_N])
    return {
        "penalty/mean": float(penalty_N.mean()) if len(penalty_N) else math.nan,
        "penalty/median": float(penalty_N.median()) if len(penalty_N) else math.nan,
        "advantage/length_correlation": correlation(
            earned.advantage_N[negative_N], rows.num_tokens_N[negative_N]
        ),
    }


def band_facts(rows: ScoredRows, earned: Credit, *, w_max: float) -> dict[str, float]:
    """HERO: what weights, bands and spreads were like, and how often an advantage contradicts the
    verdict."""
    valid_N = ~earned.reward_N.isnan()
    right_N, sign_N = rows.correct_N > 0.5, earned.advantage_N.sign()
    against_N = torch.where(right_N, sign_N < 0, sign_N > 0)[valid_N].double()
    weight_N, flat_N = (earned.columns[name][valid_N] for name in ("weight", "flat"))
    scores_PG = group_rows(rows.group).gather(rows.rm_score_N)
    spread_P = (scores_PG - scores_PG.nanmean(dim=1, keepdim=True)).square().nanmean(dim=1).sqrt()
    return {
        "sigma/batch": float(spread_P.nanmean()),
        "weight/mean": _mean(weight_N),
        "weight/saturated": _mean((weight_N > 0.99 * w_max).double()),
        "strata/flat": _mean(flat_N),
        "advantage/against_verdict": _mean(against_N),
    }


def correlation(first_N: Float[Tensor, " N"], second_N: Float[Tensor, " N"]) -> float:
    """Pearson's; nan where one does not vary."""
    if len(first_N) < 2 or first_N.std() == 0 or second_N.std() == 0:
        return math.nan
    return float(torch.corrcoef(torch.stack([first_N.double(), second_N.double()]))[0, 1])


def _mean(values_N: Tensor) -> float:
    return float(values_N.mean()) if len(values_N) else math.nan
