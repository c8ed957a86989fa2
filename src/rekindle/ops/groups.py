"""Group statistics: the answers to one problem, seen against each other.

Axes: P problems (groups), G samples a group (padded to the largest), N rows in any order. Scores
are fp64; nan marks a missing score or padding and never enters a statistic. A tied group is exactly
0: ties are found by max == min, since the rounding left in a mean, divided by a small spread, is
not noise but a false signal.
"""

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

GroupClass = Literal["all_wrong", "tied", "mixed", "all_right", "missing"]
SCORED_CLASSES: tuple[GroupClass, ...] = ("all_wrong", "tied", "mixed", "all_right")
_OF_VERDICTS: dict[frozenset[float], GroupClass] = {  # by the scores that occur
    frozenset(): "missing",
    frozenset({0.0}): "all_wrong",
    frozenset({1.0}): "all_right",
}
STD_EPS = 1e-6  # added to a group's standard deviation, as in verl


class ScoredRows(NamedTuple):
    """What credit is computed from, one row a sampled answer, in any order; nan is missing."""

    group: Sequence[Hashable]  # answers with the same key compete
    correct_N: Float[Tensor, " N"]  # the verifier: 0, 1, or a partial score
    rm_score_N: Float[Tensor, " N"]  # reward model
    sum_logprob_N: Float[Tensor, " N"]  # of the whole answer, nats
    num_tokens_N: Float[Tensor, " N"]


class Credit(NamedTuple):
    """What a method makes of scored rows."""

    reward_N: Float[Tensor, " N"]  # nan where the score is missing
    advantage_N: Float[Tensor, " N"]  # 0 there
    group_class_N: list[GroupClass]
    columns: dict[str, Float[Tensor, " N"]]  # the method's own: weight, penalty, ...


class Grouping(NamedTuple):
    """Which rows stand together: `row_PG` holds row numbers, -1 where a group is smaller."""

    row_PG: Int[Tensor, "P G"]
    keys: tuple[Hashable, ...]  # one a group, in order of first appearance

    def gather(self, values_N: Float[Tensor, " N"]) -> Float[Tensor, "P G"]:
        """Rows -> groups; nan as padding."""
        padded = torch.cat([values_N.double(), values_N.new_full((1,), torch.nan).double()])
        return padded[self.row_PG]

    def scatter(self, values_PG: Float[Tensor, "P G"]) -> Float[Tensor, " N"]:
        """Groups -> rows."""
        real_PG = self.row_PG >= 0
        out_N = values_PG.new_zeros(int(real_PG.sum()))
        out_N[self.row_PG[real_PG]] = values_PG[real_PG]
        return out_N


def group_rows(keys: Sequence[Hashable]) -> Grouping:
    """Put rows with the same key together, whatever their order and the groups' sizes."""
    members: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    width = max((len(rows) for rows in members.values()), default=0)
    row_PG = torch.full((len(members), width), -1, dtype=torch.long)
    for p, rows in enumerate(members.values()):
        row_PG[p, : len(rows)] = torch.tensor(rows)
    return Grouping(row_PG=row_PG, keys=tuple(members))


def classify_rows(
    correct_N: Float[Tensor, " N"],
    grouping: Grouping,
    total_PG: Float[Tensor, "P G"] | None = None,
) -> list[GroupClass]:
    """The class of each row's group, see `classify`."""
    classes = classify(grouping.gather(correct_N), total_PG)
    groups = zip(grouping.row_PG.tolist(), classes, strict=True)
    class_of = {row: name for rows, name in groups for row in rows}
    return [class_of[row] for row in range(len(correct_N))]


def centre(score_PG: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """r - mean of the group; exactly 0 for ties, groups of one and missing scores."""
    return _zero_where_no_comparison(score_PG, score_PG - score_PG.nanmean(dim=1, keepdim=True))


def standardise(score_PG: Float[Tensor, "P G"], *, eps: float = STD_EPS) -> Float[Tensor, "P G"]:
    """(r - mean) / (std + eps) with the sample standard deviation (ddof = 1)."""
    centred_PG = score_PG - score_PG.nanmean(dim=1, keepdim=True)
    count_P1 = _count(score_PG)
    variance_P1 = centred_PG.square().nansum(dim=1, keepdim=True) / (count_P1 - 1).clamp(min=1)
    return _zero_where_no_comparison(score_PG, centred_PG / (variance_P1.sqrt() + eps))


def leave_one_out(score_PG: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """r - mean of the others = n / (n - 1) * (r - mean of the group); n counts valid scores."""
    count_P1 = _count(score_PG)
    return centre(score_PG) * (count_P1 / (count_P1 - 1).clamp(min=1))


def is_tied(score_PG: Float[Tensor, "P G"]) -> Bool[Tensor, " P"]:
    """True for groups without two different valid scores."""
    inf = torch.inf
    highest_P = score_PG.nan_to_num(nan=-inf).amax(dim=1) if score_PG.numel() else score_PG.sum(1)
    lowest_P = score_PG.nan_to_num(nan=inf).amin(dim=1) if score_PG.numel() else score_PG.sum(1)
    return highest_P <= lowest_P


def classify(
    correct_PG: Float[Tensor, "P G"], total_PG: Float[Tensor, "P G"] | None = None
) -> list[GroupClass]:
    """The class of each group: by its verdicts first, then by whether there is a difference.

        missing     no valid verdict
        all_wrong   every valid verdict is 0, whatever the totals
        all_right   every valid verdict is 1, whatever the totals
        tied        otherwise, no two valid totals differ (partial scores that are equal)
        mixed       the rest

    Args:
        correct_PG: the verifier's scores; nan is missing.
        total_PG: what the method compares, nan where an answer is left out; None: the scores.
    """
    tied_P = is_tied(correct_PG if total_PG is None else total_PG).tolist()
    return [
        _OF_VERDICTS.get(frozenset(row[~row.isnan()].tolist()), "tied" if tied else "mixed")
        for row, tied in zip(correct_PG, tied_P, strict=True)
    ]


def read_verdicts(
    value_N: Float[Tensor, " N"], *, right: float | None = None
) -> Float[Tensor, " N"]:
    """The scores of a file as verdicts: 1 is right, 0 is wrong, nan is missing.

    Args:
        value_N: the column.
        right: the value that is right; any other is wrong. None: of two values that occur the
            larger; of one value, or more than two, the scores as they are.
    """
    values = sorted(set(value_N[~value_N.isnan()].tolist()))
    if right is None and len(values) != 2:
        return value_N
    right_N = (value_N == (values[-1] if right is None else right)).to(value_N.dtype)
    return right_N.masked_fill(value_N.isnan(), torch.nan)


def _count(score_PG: Tensor) -> Tensor:
    return (~score_PG.isnan()).sum(dim=1, keepdim=True).double()


def _zero_where_no_comparison(score_PG: Tensor, advantage_PG: Tensor) -> Tensor:
    keep_PG = ~(score_PG.isnan() | is_tied(score_PG)[:, None])
    return torch.where(keep_PG, advantage_PG, 0.0)
