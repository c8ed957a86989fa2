"""Reduction weights: how a batch of per-token losses becomes one number.

Axes: B sequences, T tokens. Fixed before the batch is split, so splitting cannot change the step:

    token     every token counts the same            w_bt = m_bt / sum(m)
    sequence  every sequence counts the same         w_bt = m_bt / (B * len_b)
    constant  a fixed budget, so length has no say   w_bt = m_bt / (B * budget)
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Reduction = Literal["token", "sequence", "constant"]


class Totals(NamedTuple):
    """What the denominators count: all rows of the step, on all processes."""

    sequences: float
    tokens: float


def totals(mask_BT: Bool[Tensor, "B T"]) -> Totals:
    """The totals of one process; sum them over processes before weighing."""
    return Totals(sequences=float(mask_BT.shape[0]), tokens=float(mask_BT.sum()))


def reduction_weights(
    mask_BT: Bool[Tensor, "B T"], reduction: Reduction, *, total: Totals, budget: int | None = None
) -> Float[Tensor, "B T"]:
    """Weights with which `(loss_BT * weight_BT).sum()` is the reduced loss, summed over processes.

    Args:
        mask_BT: True at the tokens that carry loss.
        reduction: see the module.
        total: sequences and tokens of the whole step on all processes.
        budget: the constant token count of `constant`; ignored by the others.

    Returns:
        fp64 weights; 0 where the mask is False. An empty sequence weighs 0.
    """
    mask = mask_BT.double()
    if reduction == "token":
        return mask / max(total.tokens, 1.0)
    if reduction == "sequence":
        length_B1 = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        return mask / (max(total.sequences, 1.0) * length_B1)
    if budget is None or budget < 1:
        raise ValueError(f"reduction 'constant' needs a budget of at least 1 token, got {budget}")
    return mask / (max(total.sequences, 1.0) * budget)


def weighted_sum(loss_BT: Float[Tensor, "B T"], weight_BT: Float[Tensor, "B T"]) -> Tensor:
    """The one way in which per-token losses become a number; padding cannot leak a nan."""
    return (torch.where(weight_BT != 0, loss_BT, 0.0) * weight_BT).sum()
