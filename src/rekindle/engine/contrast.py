"""Extrapolation at test time: the logits z + c (z - z_weak) of two models, nothing trained.

What WMSS does to its strong model in the tabular limit, without training; also contrastive decoding
(arXiv 2210.15097) without its plausibility cut, and proxy tuning of a model by itself.

Axes: N completion tokens of all sequences, V vocabulary.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from rekindle.engine.layout import Layout
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError
from rekindle.ops.logprobs import TokenScores, token_scores
from rekindle.ops.mixing import mixed_logits

_ROWS = 256  # rows of logits held at a time


@dataclass(kw_only=True)
class ContrastPolicy(Policy):
    """A policy whose logits are pushed away from a weaker one's; it samples and scores.

    Everything but the logits is the strong policy's: tokenizer, template, weights when saved.
    """

    weak: Policy
    strength: float

    @classmethod
    def between(cls, strong: Policy, weak: Policy, strength: float) -> "ContrastPolicy":
        """Check that the two can be combined, and do so.

        Raises:
            ModelError: other tokenizers, templates or vocabularies.
            ConfigError: a strength below 0.
        """
        if not strength >= 0:
            raise ConfigError(
                "the strength of the extrapolation is below 0",
                got=strength,
                wanted="0 (the model itself) or more; prototypes used 0.25 to 0.5",
            )
        check_pair(strong, weak)
        return cls(**vars(strong), weak=weak, strength=strength)

    @torch.no_grad()
    def logprobs(
        self,
        layout: Layout,
        *,
        temperature: float = 1.0,
        entropy: Literal["detached", "grad"] = "detached",
    ) -> TokenScores:
        """As `Policy.logprobs`, without gradients."""
        target_N = layout.targets_N
        strong, weak = ((p.hidden(layout), p.head()) for p in (self, self.weak))
        parts = []
        for first in range(0, len(target_N), _ROWS):
            rows = slice(first, first + _ROWS)
            strong_NV, weak_NV = (head.logits(hidden[rows]) for hidden, head in (strong, weak))
            mixed_NV = mixed_logits(strong_NV, weak_NV, lam=1 + self.strength)
            parts.append(
                token_scores(mixed_NV[None], target_N[None, rows], temperature=temperature)
            )
        flat = (torch.cat([values_1N[0] for values_1N in of]) for of in zip(*parts, strict=True))
        return TokenScores(*(layout.spread(values_N) for values_N in flat))
