"""The clipped loss's two terms beside the clip: what each adds, and with which sign."""

import math

import pytest
import torch

from rekindle.ops.surrogate import clipped_surrogate

F64 = torch.float64
CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def of(value):
    return torch.full((2, 3), value, dtype=F64)


def test_the_entropy_bonus_is_subtracted_so_that_descent_raises_the_entropy():
    entropy_BT = of(1.5).requires_grad_()
    terms = clipped_surrogate(
        of(-1.0), of(-1.0), of(2.0), entropy_BT=entropy_BT, entropy_weight=0.1, **CLIP
    )
    torch.testing.assert_close(terms.loss_BT.detach(), of(-2.0 - 0.1 * 1.5))
    (gradient,) = torch.autograd.grad(terms.loss_BT.sum(), entropy_BT)
    torch.testing.assert_close(gradient, of(-0.1))


def test_the_kl_penalty_is_added_and_is_that_of_the_reference():
    """p = e^-1, q = e^-2: k3 = e^-1 - 1 + 1."""
    terms = clipped_surrogate(of(-1.0), of(-1.0), of(0.0), of(-2.0), beta=0.5, **CLIP)
    torch.testing.assert_close(terms.kl_BT, of(math.exp(-1)))
    torch.testing.assert_close(terms.loss_BT, of(0.5 * math.exp(-1)))
    silent = clipped_surrogate(of(-1.0), of(-1.0), of(0.0), **CLIP)
    assert bool(silent.kl_BT.isnan().all())
    assert float(silent.loss_BT.sum()) == 0


@pytest.mark.parametrize(("advantage", "held"), [(1.0, [0, 0, 1]), (-1.0, [1, 0, 0])])
def test_only_what_the_clip_holds_back_counts_as_clipped(advantage, held):
    """Ratios 0.5, 1, 1.5: a gain is held above, a loss below."""
    ratio_BT = torch.tensor([[0.5, 1.0, 1.5]], dtype=F64)
    terms = clipped_surrogate(
        ratio_BT.log(), torch.zeros_like(ratio_BT), torch.tensor([[advantage]], dtype=F64), **CLIP
    )
    assert terms.clipped_BT.tolist() == [held]
