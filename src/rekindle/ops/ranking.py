"""How well scores put right answers above wrong ones.

N rows in any order; nan in `score_N` or `right_N` takes a row out.
"""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rekindle.ops.groups import group_rows


def auc(score_N: Float[Tensor, " N"], right_N: Float[Tensor, " N"]) -> float:
    """P(score of a right row > score of a wrong row), a tie counts one half (Mann-Whitney U).

    Right is `right_N` above 0.5. nan when there are no right or no wrong rows.
    """
    kept_N = ~(score_N.isnan() | right_N.isnan())
    score_N, good_N = score_N[kept_N].double(), right_N[kept_N] > 0.5
    positives, negatives = score_N[good_N], score_N[~good_N].sort().values
    if len(positives) == 0 or len(negatives) == 0:
        return torch.nan
    below = torch.searchsorted(negatives, positives, right=False)
    up_to = torch.searchsorted(negatives, positives, right=True)
    wins = (below + up_to).double().sum() / 2
    return float(wins / (len(positives) * len(negatives)))


def group_auc(
    score_N: Float[Tensor, " N"], right_N: Float[Tensor, " N"], group: Sequence[Hashable]
) -> float:
    """`auc` over pairs of the same group alone: what a group-relative method can use.

    Each pair counts once. nan when no group has both kinds.
    """
    wins, pairs = 0.0, 0
    for row_G in group_rows(group).row_PG:
        rows = row_G[row_G >= 0]
        right = right_N[rows]
        known = ~(score_N[rows].isnan() | right.isnan())
        good = int((known & (right > 0.5)).sum())
        count = good * (int(known.sum()) - good)
        if count:
            wins += auc(score_N[rows], right) * count
            pairs += count
    return wins / pairs if pairs else torch.nan
