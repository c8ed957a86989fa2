"""Reduction weights: sums, splits, budgets, and the twin written as a formula."""

import pytest
import torch

from rekindle.ops.weights import Totals, reduction_weights, totals, weighted_sum

F64 = torch.float64


def ragged_mask(gen, rows=7, width=9):
    lengths_B = torch.randint(1, width + 1, (rows,), generator=gen)
    return torch.arange(width)[None, :] < lengths_B[:, None]


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_weights_sum_to_one(reduction, gen):
    mask_BT = ragged_mask(gen)
    weight_BT = reduction_weights(mask_BT, reduction, total=totals(mask_BT))
    torch.testing.assert_close(weight_BT.sum(), torch.tensor(1.0, dtype=F64))
    assert bool((weight_BT[~mask_BT] == 0).all())


def test_reductions_are_their_formulas(gen):
    mask_BT = ragged_mask(gen)
    loss_BT = torch.randn(mask_BT.shape, generator=gen, dtype=F64)
    total = totals(mask_BT)
    rows = [loss_BT[b][mask_BT[b]] for b in range(len(mask_BT))]
    expected = {
        "token": torch.cat(rows).mean(),
        "sequence": torch.stack([row.mean() for row in rows]).mean(),
        "constant": torch.stack([row.sum() / 11 for row in rows]).mean(),
    }
    for reduction, value in expected.items():
        weight_BT = reduction_weights(mask_BT, reduction, total=total, budget=11)
        torch.testing.assert_close(weighted_sum(loss_BT, weight_BT), value)


@pytest.mark.parametrize("reduction", ["token", "sequence", "constant"])
def test_splitting_rows_over_processes_cannot_change_the_sum(reduction, gen):
    mask_BT = ragged_mask(gen)
    loss_BT = torch.randn(mask_BT.shape, generator=gen, dtype=F64)
    parts = [mask_BT[:2], mask_BT[2:3], mask_BT[3:]]
    counted = [totals(part) for part in parts]
    total = Totals(sum(c.sequences for c in counted), sum(c.tokens for c in counted))
    whole = weighted_sum(loss_BT, reduction_weights(mask_BT, reduction, total=total, budget=4))
    pieces = [
        weighted_sum(loss, reduction_weights(part, reduction, total=total, budget=4))
        for loss, part in zip(loss_BT.split([2, 1, 4]), parts, strict=True)
    ]
    torch.testing.assert_close(torch.stack(pieces).sum(), whole)


def test_an_empty_answer_weighs_nothing_and_a_nan_in_padding_does_not_leak():
    mask_BT = torch.tensor([[True, True], [False, False]])
    weight_BT = reduction_weights(mask_BT, "sequence", total=totals(mask_BT))
    loss_BT = torch.tensor([[1.0, 3.0], [torch.nan, torch.nan]], dtype=F64, requires_grad=True)
    value = weighted_sum(loss_BT, weight_BT)
    assert value.item() == pytest.approx(1.0)  # mean 2 of one of two sequences
    value.backward()
    assert loss_BT.grad is not None
    assert bool(loss_BT.grad.isfinite().all())


def test_a_constant_reduction_needs_its_budget():
    with pytest.raises(ValueError, match="budget"):
        reduction_weights(torch.ones(1, 1, dtype=torch.bool), "constant", total=Totals(1, 1))
