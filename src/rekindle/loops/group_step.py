"""The loop that all group methods share: answers out, credit in.

    for step in group_loop(config, world):
        step.update(credit(step.rows, config))

What a paper says about credit is in its own file; the loss is `ops.surrogate`. Here the rows of a
rollout batch are weighed over all answers of all processes, then cut into minibatches of whole
groups, and each is one update.

Axes: N rows of all processes, B sequences of this process, T completion tokens.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.config import Section
from rekindle.engine.policy import Policy
from rekindle.engine.state import Scalar, TrainState
from rekindle.engine.update import LossFn, LossTerms
from rekindle.loops.rollouts import Collected, reward_metrics, sample_rows
from rekindle.loops.world import World
from rekindle.ops.groups import Credit, ScoredRows
from rekindle.ops.surrogate import clipped_surrogate
from rekindle.ops.weights import Reduction

STATS = ("kl", "clip_ratio", "ratio/mean", "entropy/trained", "logprobs/sampler_gap")


class StepConfig(Section):
    """How credit becomes updates: the same settings in every group method."""

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


@dataclass(frozen=True)
class GroupStep:
    """One step of a group method: its answers are here, its update is due.

    Attributes:
        number: of the step, from 1.
        collected: the answers.
        reference: the start model, frozen, where there is a KL to it; `kl` is its weight.
    """

    number: int
    collected: Collected
    config: StepConfig
    world: World
    state: TrainState
    reference: Policy | None
    kl: float

    @property
    def rows(self) -> ScoredRows:
        """Scores, log-probs and lengths of the answers of all processes, whole groups."""
        return self.collected.rows

    @property
    def scalars(self) -> dict[str, Scalar]:
        """The method's running numbers; part of the state, so that resume is exact."""
        return self.state.scalars

    def entropies(self) -> Float[Tensor, "B T"]:
        """At each token of this process's answers, by the policy that sampled; nan as padding."""
        with self.world.logbook.clock("update"):
            return self.world.measure(self.world.policy, self.collected.batch()).entropy_BT

    def update(
        self,
        credit: Credit,
        facts: Mapping[str, float] | None = None,
        *,
        entropy_weight: float | None = None,
        shape_BT: Float[Tensor, "B T"] | None = None,
    ) -> None:
        """Take the step's updates, and write its row with the method's `facts`; once a step.

        Args:
            entropy_weight: instead of the config's, for a bonus that changes over training.
            shape_BT: factor of the advantage at each token of this process's answers (RL-ZVP).
        """
        config, world = self.config, self.world
        bonus = config.entropy_bonus if entropy_weight is None else entropy_weight
        with world.logbook.clock("update"):
            batches = self._weigh(credit, shape_BT, all_rows=bonus > 0)
            loss = objective(
                world.policy,
                config,
                temperature=world.sample.temperature,
                kl=self.kl,
                entropy_weight=bonus,
            )
            updates = [
                world.update(self.state, batch, loss, stats=STATS)
                for _ in range(config.epochs)
                for batch in batches
            ]
        metrics = self._metrics(credit, updates, batches, facts or {})
        limit = world.logbook.config.samples
        samples = sample_rows(self.number, self.collected, credit, limit=limit)
        world.log(self.number, metrics, samples)

    def _weigh(
        self, credit: Credit, shape_BT: Float[Tensor, "B T"] | None, *, all_rows: bool
    ) -> list[Batch]:
        """The minibatches: weights over all answers, then only rows with signal.

        With `all_rows`, or a reference, rows with an advantage of 0 have a gradient too and stay.
        """
        config, world, collected = self.config, self.world, self.collected
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
                advantage_B=credit.advantage_N[[collected.position[row] for row in rows]],
                sampled_logprobs=[rollout.sampled_logprobs for rollout in rollouts],
            )
            if shape_BT is not None:
                width = batch.weight_BT.shape[1]
                batch = batch.replace(shape_BT=shape_BT[torch.tensor(rows), :width])
            if self.reference is not None:
                reference = world.measure(self.reference, batch)
                batch = batch.replace(ref_logprobs_BT=reference.logprobs_BT)
            elif not all_rows:
                batch = batch.with_signal()
            if not config.used_once:
                before = world.measure(world.policy, batch)
                batch = batch.replace(old_logprobs_BT=before.logprobs_BT)
            batches.append(batch)
        return batches

    def _metrics(
        self,
        credit: Credit,
        updates: Sequence[Mapping[str, float]],
        batches: Sequence[Batch],
        facts: Mapping[str, float],
    ) -> dict[str, float]:
        """The step's row: means over the updates, the answers, the method's facts."""
        collected, rows = self.collected, self.rows
        sums = self.world.group.sum(
            {
                "trained": float(sum(batch.tokens for batch in batches)),
                "truncated": float(sum(r.finish == "length" for r in collected.rollouts)),
            }
        )
        tokens, answers = float(rows.num_tokens_N.sum()), len(rows.group)
        return {
            **{name: sum(each[name] for each in updates) / len(updates) for name in updates[-1]},
            **reward_metrics(rows, credit),
            # -log p of what was sampled, averaged: unbiased for the entropy, over all answers
            "entropy": -float(rows.sum_logprob_N.sum()) / tokens if tokens else math.nan,
            "tokens/generated": float(collected.generated),
            "tokens/trained": sums["trained"],
            "length/mean": tokens / answers if answers else math.nan,
            "length/truncated": sums["truncated"] / answers if answers else math.nan,
            "problems/asked": float(collected.problems),
            "updates": float(len(updates)),
            **facts,
            **self.world.graders.metrics(collected.gathered),
        }


def group_loop(
    config: StepConfig,
    world: World,
    *,
    kl: float = 0.0,
    extra_rollouts: float = 0.0,
    logprobs: Literal["trainer", "sampler"] = "sampler",
) -> Iterator[GroupStep]:
    """Sample groups and score them, `optim.steps` times; the body of the loop calls `update`.

    Args:
        kl: weight of the KL to the policy as it is now.
        extra_rollouts: of dynamic sampling, as `World.collect`.
        logprobs: whose `sum_logprob_N` the rows have; the trainer's costs a forward.
    """
    reference = world.policy.frozen_copy() if kl > 0 else None
    state = world.begin()
    for number in world.steps(state):
        collected = world.collect(state, samples=config.group_size, extra_rollouts=extra_rollouts)
        if logprobs == "trainer":
            with world.logbook.clock("update"):
                logprobs_BT = world.measure(world.policy, collected.batch()).logprobs_BT
            collected = collected.with_sums(logprobs_BT.nansum(dim=1).tolist(), world.group)
        yield GroupStep(number, collected, config, world, state, reference, kl)


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

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(micro.layout, temperature=temperature, entropy=entropy)
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
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            beta=kl,
            entropy_weight=entropy_weight,
        )
        gap_BT = (old_BT - micro.sampled_logprobs_BT.to(new_BT)).abs()
        entropy_BT = scores.entropy_BT.detach()
        stats = (terms.kl_BT, terms.clipped_BT, terms.ratio_BT, entropy_BT, gap_BT)
        return LossTerms(terms.loss_BT, dict(zip(STATS, stats, strict=True)))

    return loss
