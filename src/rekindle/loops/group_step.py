"""The step that all group methods share: credit in, updates out.

What a paper says about credit is in its own file; the loss is `ops.surrogate`. Here the rows of a
rollout batch are weighed over all answers of all processes, then cut into minibatches of whole
groups, and each is one update.
"""

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.config import Section
from rekindle.engine.policy import Policy
from rekindle.engine.state import TrainState
from rekindle.engine.update import LossFn, LossTerms, update
from rekindle.loops.rollouts import Collected
from rekindle.loops.world import World
from rekindle.ops.groups import Credit
from rekindle.ops.surrogate import clipped_surrogate
from rekindle.ops.weights import Reduction

STATS = ("kl", "clip_ratio", "ratio/mean", "entropy/trained", "logprobs/sampler_gap")


class StepConfig(Section):
    """How credit becomes updates: the same knobs in every group method."""

    group_size: int = Field(default=8, description="answers a problem (G); the papers use 8 to 64")
    reduction: Reduction = Field(default="sequence", description="2402.03300 eq. 3")
    budget: int | None = Field(
        default=None, ge=1, description="tokens of the constant reduction; None: max_new_tokens"
    )
    clip_low: float = Field(default=0.2, ge=0.0, le=1.0, description="ratio may fall by this")
    clip_high: float = Field(default=0.2, ge=0.0, description="ratio may rise by this")
    entropy_bonus: float = Field(
        default=0.0, ge=0.0, description="weight of the exact token entropy in the loss"
    )
    minibatches: int = Field(default=1, ge=1, description="updates from one rollout batch")
    epochs: int = Field(default=1, ge=1, description="passes over one rollout batch")

    @property
    def used_once(self) -> bool:
        """Each rollout batch is one update: the old log-probs are then the forward pass itself."""
        return self.minibatches * self.epochs == 1


class Reference(NamedTuple):
    """The start model, frozen, and the weight of the KL to it."""

    policy: Policy
    weight: float


def reference_of(policy: Policy, weight: float) -> Reference | None:
    """A copy of the policy as it is now; None where the loss has no KL term."""
    return Reference(policy.frozen_copy(), weight) if weight > 0 else None


def take(
    config: StepConfig,
    world: World,
    state: TrainState,
    collected: Collected,
    earned: Credit,
    reference: Reference | None,
    *,
    entropy_weight: float | None = None,
    shape_BT: torch.Tensor | None = None,
) -> tuple[list[dict[str, float]], list[Batch]]:
    """The updates of one rollout batch; their metrics, and what was trained on.

    Args:
        entropy_weight: instead of the config's, for a bonus that changes over training.
        shape_BT: factor of the advantage at each token of this process's rollouts (RL-ZVP).
    """
    weight = config.entropy_bonus if entropy_weight is None else entropy_weight
    with world.clock("update"):
        batches = weigh(
            config, world, collected, earned, reference, all_rows=weight > 0, shape_BT=shape_BT
        )
        loss = objective(
            world.policy,
            config,
            temperature=world.sample.temperature,
            kl=0.0 if reference is None else reference.weight,
            entropy_weight=weight,
        )
        updates = [
            update(
                state,
                batch.split(world.micro_tokens),
                loss,
                clip=world.optim.clip,
                group=world.group,
                device=world.policy.device,
                stats=STATS,
            )
            for _ in range(config.epochs)
            for batch in batches
        ]
    return updates, batches


def weigh(
    config: StepConfig,
    world: World,
    collected: Collected,
    earned: Credit,
    reference: Reference | None,
    *,
    all_rows: bool = False,
    shape_BT: torch.Tensor | None = None,
) -> list[Batch]:
    """The minibatches of a rollout batch: weights over all answers, then only rows with signal.

    With `all_rows`, or a reference, rows with an advantage of 0 have a gradient too and stay.
    """
    batches = []
    for rows in collected.minibatches(config.minibatches):
        rollouts = [collected.rollouts[row] for row in rows]
        completions = [rollout.tokens for rollout in rollouts]
        batch = pack(
            [rollout.prompt_tokens for rollout in rollouts],
            completions,
            reduction=config.reduction,
            total=world.total(count(completions)),
            budget=config.budget or world.sample.max_new_tokens,
            advantage_B=earned.advantage_N[[collected.position[row] for row in rows]],
            sampled_logprobs=[rollout.sampled_logprobs for rollout in rollouts],
        )
        if shape_BT is not None:
            width = batch.weight_BT.shape[1]
            batch = batch.replace(shape_BT=shape_BT[torch.tensor(rows), :width])
        if reference is not None:
            batch = batch.replace(ref_logprobs_BT=world.score(reference.policy, batch))
        elif not all_rows:
            batch = batch.with_signal()
        if not config.used_once:
            batch = batch.replace(old_logprobs_BT=world.score(world.policy, batch))
        batches.append(batch)
    return batches


def objective(
    policy: Policy,
    config: StepConfig,
    *,
    temperature: float,
    kl: float = 0.0,
    entropy_weight: float = 0.0,
) -> LossFn:
    """The loss of a micro-batch; `old` is the forward pass itself when a batch is used once."""
    entropy: Literal["grad", "detached"] = "grad" if entropy_weight else "detached"
    bounds: dict[str, Any] = {"clip_low": config.clip_low, "clip_high": config.clip_high}

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(
            micro.tokens_BS,
            micro.attend_BS,
            start=micro.start,
            temperature=temperature,
            entropy=entropy,
        )
        new_BT = scores.logprobs_BT
        # Padding has no old or reference value; one that gives a ratio of 1 keeps nan out of the
        # gradient.
        still_BT = new_BT.detach()
        old_BT = still_BT if config.used_once else micro.filled(micro.old_logprobs_BT, still_BT)
        terms = clipped_surrogate(
            new_BT,
            old_BT,
            micro.advantage_B[:, None] * micro.shape_BT,
            micro.filled(micro.ref_logprobs_BT, still_BT) if kl > 0 else None,
            scores.entropy_BT,
            **bounds,
            beta=kl,
            entropy_weight=entropy_weight,
        )
        gap_BT = (old_BT - micro.sampled_logprobs_BT.to(new_BT)).abs()
        entropy_BT = scores.entropy_BT.detach()
        stats = (terms.kl_BT, terms.clipped_BT, terms.ratio_BT, entropy_BT, gap_BT)
        return LossTerms(terms.loss_BT, dict(zip(STATS, stats, strict=True)))

    return loss
