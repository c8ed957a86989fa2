"""The clipped policy-gradient loss that GRPO and its descendants share.

    rho_it  = exp(logp(o_it) - old_logp(o_it))
    loss_it = -min(rho_it A_it, clip(rho_it, 1 - clip_low, 1 + clip_high) A_it)
              + beta k3_it - entropy_weight H_it

PPO, Schulman et al. 2017, arXiv 1707.06347, eq. 7; the k3 penalty inside the loss and one advantage
for all tokens of an answer: GRPO, arXiv 2402.03300, eq. 3-4; two clip bounds: DAPO, 2503.14476,
eq. 10; the entropy bonus: PPO, eq. 9.

Axes: B sequences, T completion tokens.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rekindle.ops.logprobs import kl_k3


class SurrogateTerms(NamedTuple):
    """A token's loss, and the parts that are logged."""

    loss_BT: Float[Tensor, "B T"]
    ratio_BT: Float[Tensor, "B T"]
    clipped_BT: Float[Tensor, "B T"]  # 1 where the clip holds the gradient back
    kl_BT: Float[Tensor, "B T"]


def clipped_surrogate(
    logprobs_BT: Float[Tensor, "B T"],
    old_logprobs_BT: Float[Tensor, "B T"],
    advantage_BT: Float[Tensor, "B #T"],
    ref_logprobs_BT: Float[Tensor, "B T"] | None = None,
    entropy_BT: Float[Tensor, "B T"] | None = None,
    *,
    clip_low: float,
    clip_high: float,
    beta: float = 0.0,
    entropy_weight: float = 0.0,
) -> SurrogateTerms:
    """Per-token loss; see the module's text.

    Args:
        logprobs_BT: of the policy, with gradient.
        old_logprobs_BT: of the policy that sampled, without.
        advantage_BT: credit of each token, or of each row (one column).
        ref_logprobs_BT: of the reference; None: no KL term, and the KL is nan.
        entropy_BT: of the policy, with gradient; needed where `entropy_weight` is not 0.
    """
    ratio_BT = (logprobs_BT - old_logprobs_BT).exp()
    advantage_BT = advantage_BT.to(ratio_BT)
    free_BT = ratio_BT * advantage_BT
    held_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high) * advantage_BT
    loss_BT = -torch.minimum(free_BT, held_BT)
    kl_BT = torch.full_like(loss_BT, math.nan)
    if ref_logprobs_BT is not None:
        kl_BT = kl_k3(logprobs_BT, ref_logprobs_BT)
        loss_BT = loss_BT + beta * kl_BT
    if entropy_weight and entropy_BT is not None:
        loss_BT = loss_BT - entropy_weight * entropy_BT
    return SurrogateTerms(loss_BT, ratio_BT, (held_BT < free_BT).to(loss_BT), kl_BT)
