"""What mixing does to the signal: margins of both models, and gradient where SFT has none left.

Axes: N tokens looked at, V vocabulary.
"""

import math
from collections import defaultdict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rekindle.engine.device import Group
from rekindle.ops.heads import raised
from rekindle.ops.logprobs import categorical_entropy
from rekindle.ops.mixing import mixed_logits

TOKENS = 256  # of each micro-batch: two small products, whatever the vocabulary
SATURATED = 0.99


class MixSignal:
    """Sums over a step's micro-batches; `metrics` averages them over processes and begins anew.

    | metric | |
    |---|---|
    | `tokens/above_099` | share of tokens with p_strong(y) > 0.99: as SFT logs it |
    | `mass/non_target` | 1 - p_strong(y) |
    | `entropy` | of the strong model, nats a token |
    | `margin/strong`, `margin/weak` | z[y] - max over k != y of z[k] (eq. 12), nats |
    | `mix/gradient` | lam (1 - p_mix(y)), what reaches the strong model's target logit (eq. 22) |
    | `mix/amplified` | share of tokens where that is more than SFT's 1 - p_strong(y) |
    | `mix/reactivated` | share of that gradient on tokens with p_strong(y) > 0.99 |
    """

    def __init__(self, lam: float) -> None:
        self.lam = lam
        self._sums: defaultdict[str, float] = defaultdict(float)

    @torch.no_grad()
    def add(
        self,
        strong_NV: Float[Tensor, "N V"],
        weak_NV: Float[Tensor, "N V"],
        target_N: Int[Tensor, " N"],
    ) -> None:
        """Count these tokens in; logits are raised to fp32 first."""
        strong_NV, weak_NV = raised(strong_NV), raised(weak_NV)
        p_strong_N = _target(strong_NV.softmax(-1), target_N)
        p_mix_N = _target(mixed_logits(strong_NV, weak_NV, lam=self.lam).softmax(-1), target_N)
        plain_N, mixed_N = 1 - p_strong_N, self.lam * (1 - p_mix_N)
        saturated_N = p_strong_N > SATURATED
        values = {
            "tokens/above_099": saturated_N,
            "mass/non_target": plain_N,
            "entropy": categorical_entropy(strong_NV),
            "margin/strong": target_margin(strong_NV, target_N),
            "margin/weak": target_margin(weak_NV, target_N),
            "mix/gradient": mixed_N,
            "mix/amplified": mixed_N > plain_N,
            "on saturated": mixed_N * saturated_N,
        }
        for name, value in values.items():
            self._sums[name] += float(value.double().sum())
        self._sums["tokens"] += len(target_N)

    def metrics(self, group: Group) -> dict[str, float]:
        """Means over the tokens of all processes since the last call; nan without a token."""
        sums = group.sum(self._sums)
        self._sums.update(dict.fromkeys(self._sums, 0.0))
        tokens, saturated = sums.pop("tokens"), sums.pop("on saturated")
        means = {name: value / tokens if tokens else math.nan for name, value in sums.items()}
        whole = sums["mix/gradient"]
        return {**means, "mix/reactivated": saturated / whole if whole else math.nan}


def target_margin(
    logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """z[y] - max over k != y of z[k]; below 0 where another token leads (eq. 12)."""
    others_NV = logits_NV.scatter(-1, target_N[:, None], -torch.inf)
    return _target(logits_NV, target_N) - others_NV.max(dim=-1).values


def _target(values_NV: Tensor, target_N: Tensor) -> Tensor:
    return values_NV.gather(-1, target_N[:, None]).squeeze(-1)
