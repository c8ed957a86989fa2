"""ORPO, Odds Ratio Preference Optimization: the chosen answer's loss, and its odds.

Hong, Lee and Thorne 2024, arXiv 2403.07691.

    l        = log pi(y)/|y|                                        mean over tokens
    log_odds = (l_w - l_l) - [log(1 - e^l_w) - log(1 - e^l_l)]      eq. 4, 7
    loss_n   = -l_w - beta logsigmoid(log_odds)                     eq. 6

Axes: N pairs.

What we changed or left out, and why:
* l is held below 0 by `_LEAST` in the odds, which have no limit there; the gradient is that of the
  clamped value, 0 beyond it.
* Without a reference: nothing holds the model where it was but the chosen answers.
* The paper writes lambda for the weight, TRL and LLaMA-Factory beta.

Known failure modes: it is SFT on the chosen answers first of all; with rejected answers of low
probability the second term has no say.
"""

from collections.abc import Sequence
from functools import partial

import torch
from pydantic import Field
from torch.nn.functional import logsigmoid

from rekindle.engine.config import SampleConfig, Section
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError
from rekindle.loops.pair_step import PairScores, PairTerms, pairs_to_train, train_on_pairs
from rekindle.loops.world import World
from rekindle.tasks.pairs import PairRow

_LEAST = 1e-6

# --- the formula


def orpo_terms(s: PairScores, *, beta: float) -> PairTerms:
    """Eq. 6-7 and its derivatives by the answers' summed log-probs."""
    chosen_N, rejected_N = s.chosen_N / s.chosen_tokens_N, s.rejected_N / s.rejected_tokens_N
    below = [value_N.clamp(max=-_LEAST) for value_N in (chosen_N, rejected_N)]
    inside = [(value_N < -_LEAST).to(value_N) for value_N in (chosen_N, rejected_N)]
    rest = [torch.log(-torch.expm1(value_N)) for value_N in below]  # log(1 - e^l)
    odds_N = (below[0] - below[1]) - (rest[0] - rest[1])
    # d log_odds / d l_w = 1 + e^l / (1 - e^l) = 1 / (1 - e^l)
    slopes = [inside_N * torch.exp(-rest_N) for inside_N, rest_N in zip(inside, rest, strict=True)]
    push_N = beta * (-odds_N).sigmoid()
    return PairTerms(
        loss_N=-chosen_N - beta * logsigmoid(odds_N),
        margin_N=odds_N,
        up_N=(1 + push_N * slopes[0]) / s.chosen_tokens_N,
        down_N=push_N * slopes[1] / s.rejected_tokens_N,
    )


# --- what can be set


class Config(Section):
    """ORPO's settings."""

    beta: float = Field(default=0.1, ge=0.0, description="weight of the odds; 2403.07691: 0.1-0.25")
    pairs: str | None = Field(
        default=None, description="file of prompt, chosen, rejected, where this is the method"
    )


PRESETS: dict[str, Config] = {"orpo": Config()}


def check(config: Config, sample: SampleConfig) -> None:
    """As the method of a recipe it needs pairs."""
    if config.pairs is None:
        raise ConfigError(
            "method: orpo needs pairs",
            wanted="orpo.pairs: a JSONL file of prompt, chosen, rejected",
        )


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Train on the pairs of a file; the task is for evaluation."""
    return run_pairs(config, world, pairs_to_train(world, config.pairs))


def run_pairs(config: Config, world: World, pairs: Sequence[PairRow]) -> Policy:
    """Train the world's policy on pairs; there is no reference."""
    return train_on_pairs(world, pairs, partial(orpo_terms, beta=config.beta), reference=None)
