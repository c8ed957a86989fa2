"""AUC against its definition, and what must not change it."""

import math

import pytest
import torch

from rekindle.ops.ranking import auc, group_auc


def brute(score, right, group=None):
    """Every pair of a right and a wrong row; a tie is half a win."""
    wins, pairs = 0.0, 0
    for i, si in enumerate(score):
        for j, sj in enumerate(score):
            if right[i] == 1 and right[j] == 0 and (group is None or group[i] == group[j]):
                wins += 1.0 if si > sj else 0.5 if si == sj else 0.0
                pairs += 1
    return wins / pairs if pairs else math.nan


@pytest.mark.parametrize("seed", range(20))
def test_equals_all_pairs(seed):
    gen = torch.Generator().manual_seed(seed)
    score = torch.randint(0, 6, (40,), generator=gen).double()  # many ties
    right = torch.randint(0, 2, (40,), generator=gen).double()
    group = torch.randint(0, 7, (40,), generator=gen).tolist()
    assert auc(score, right) == pytest.approx(brute(score.tolist(), right.tolist()), abs=1e-12)
    assert group_auc(score, right, group) == pytest.approx(
        brute(score.tolist(), right.tolist(), group), abs=1e-12
    )


def test_turning_scores_round_turns_the_auc_round_and_scale_is_no_matter(gen):
    score = torch.randn(50, generator=gen).double()
    right = (torch.rand(50, generator=gen) < 0.3).double()
    value = auc(score, right)
    assert auc(-score, right) == pytest.approx(1 - value, abs=1e-12)
    assert auc(score.exp() * 7 - 3, right) == pytest.approx(value, abs=1e-12)


def test_undefined_is_nan():
    ones = torch.ones(3)
    assert math.isnan(auc(ones, ones))
    assert math.isnan(auc(ones, 0 * ones))
    assert math.isnan(auc(torch.tensor([]), torch.tensor([])))
    mixed = torch.tensor([1.0, 0.0])
    assert math.isnan(group_auc(mixed, mixed, ["a", "b"]))


def test_missing_rows_stay_out():
    score = torch.tensor([2.0, 1.0, math.nan, 9.0, 5.0])
    right = torch.tensor([1.0, 0.0, 1.0, math.nan, 0.0])
    assert auc(score, right) == 0.5
    assert group_auc(score, right, list("aaaaa")) == 0.5


def test_difficulty_alone_is_worth_nothing_within_a_problem():
    """A model that knows only which problem is easy: pooled AUC 0.9, in-group 0.5."""
    right = torch.tensor([1.0] * 9 + [0.0] + [1.0] + [0.0] * 9)
    score = torch.tensor([1.0] * 10 + [0.0] * 10)
    assert auc(score, right) == pytest.approx(0.9)
    assert group_auc(score, right, ["easy"] * 10 + ["hard"] * 10) == 0.5
