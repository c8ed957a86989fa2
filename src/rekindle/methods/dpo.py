"""DPO, Direct Preference Optimization: raise the chosen over the rejected, relative to a reference.

Rafailov et al. 2023, arXiv 2305.18290.

    margin_n = beta [(log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))]     eq. 7
    loss_n   = -(1 - eps) logsigmoid(margin_n) - eps logsigmoid(-margin_n) - nll log pi(y_w)/|y_w|

Axes: N pairs. Log-probs are summed over the answer's tokens, the end token among them.

What we changed or left out, and why:
* The loss is a mean over the pairs of a step, whatever their lengths and the number of processes.
* The reference is a frozen copy of the model as training begins, never loaded again by name.
* Only the sigmoid loss; label smoothing is that of cDPO, the NLL term that of RPO (2404.19733).
* Pairs are shown in seeded epochs; the reference scores each pair once in a run.

Known failure modes: both log-probs fall, the chosen one with them (`pairs/chosen_change`, and
`pairs/displaced` is 1 after ten such steps); chosen and rejected that are alike give little
gradient, and one that is mostly the rejected one's (`pairs/gradient_rejected`).
"""

from collections.abc import Sequence
from functools import partial

from pydantic import Field
from torch.nn.functional import logsigmoid

from rekindle.engine.config import SampleConfig, Section
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError
from rekindle.loops.pair_step import PairScores, PairTerms, pairs_to_train, train_on_pairs
from rekindle.loops.world import World
from rekindle.tasks.pairs import PairRow

# --- the formula


def dpo_terms(s: PairScores, *, beta: float, smoothing: float, nll: float) -> PairTerms:
    """Eq. 7 with label smoothing and the chosen answer's own loss, and its derivatives."""
    margin_N = beta * ((s.chosen_N - s.ref_chosen_N) - (s.rejected_N - s.ref_rejected_N))
    loss_N = -(1 - smoothing) * logsigmoid(margin_N) - smoothing * logsigmoid(-margin_N)
    push_N = beta * ((1 - smoothing) * (-margin_N).sigmoid() - smoothing * margin_N.sigmoid())
    return PairTerms(
        loss_N=loss_N - nll * s.chosen_N / s.chosen_tokens_N,
        margin_N=margin_N,
        up_N=push_N + nll / s.chosen_tokens_N,
        down_N=push_N,
    )


# --- what can be set


class Config(Section):
    """DPO's settings."""

    beta: float = Field(default=0.1, gt=0.0, description="2401.10020 and 2508.06026 both take 0.1")
    smoothing: float = Field(default=0.0, ge=0.0, lt=0.5, description="label smoothing")
    nll: float = Field(default=0.0, ge=0.0, description="weight of -log p a token of the chosen")
    pairs: str | None = Field(
        default=None, description="file of prompt, chosen, rejected, where this is the method"
    )


PRESETS: dict[str, Config] = {"dpo": Config()}


def check(config: Config, sample: SampleConfig) -> None:
    """As the method of a recipe it needs pairs."""
    if config.pairs is None:
        raise ConfigError(
            "method: dpo needs pairs", wanted="dpo.pairs: a JSONL file of prompt, chosen, rejected"
        )


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Train on the pairs of a file; the task is for evaluation."""
    return run_pairs(config, world, pairs_to_train(world, config.pairs))


def run_pairs(config: Config, world: World, pairs: Sequence[PairRow]) -> Policy:
    """Train the world's policy on pairs, referenced to itself as it begins."""
    rule = partial(dpo_terms, beta=config.beta, smoothing=config.smoothing, nll=config.nll)
    return train_on_pairs(world, pairs, rule, reference=world.policy.frozen_copy())
