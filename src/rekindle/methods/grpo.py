"""Group Relative Policy Optimization and its close kin.

GRPO      DeepSeekMath, Shao et al. 2024, arXiv 2402.03300, eq. 3-4
Dr. GRPO  Understanding R1-Zero-like Training, Liu et al. 2025, arXiv 2503.20783, eq. 3
DAPO      An Open-Source LLM RL System at Scale, Yu et al. 2025, arXiv 2503.14476, eq. 8-13
RLOO      Back to Basics, Ahmadian et al. 2024, arXiv 2402.14740, eq. 9

    rho_it = exp(logp(o_it) - old_logp(o_it))
    loss_it = -min(rho_it A_i, clip(rho_it, 1 - clip_low, 1 + clip_high) A_i) + beta k3_it
    A_i = (r_i - mean r) / (std r + 1e-6)    grpo, dapo   (sample std, as in verl and TRL)
          r_i - mean r                       dr_grpo
          r_i - mean of the others           rloo
    reduction: grpo mean over answers of the mean over tokens; dapo mean over all tokens;
               dr_grpo sum / (answers * max_new_tokens); rloo sum over tokens, mean over answers

Axes: P problems, G answers a problem, N = P * G rows, B sequences, T completion tokens.

What we changed or left out, and why:
* beta defaults to 0 (DeepSeekMath: 0.04): DAPO and Dr. GRPO drop the term, as does TRL's default.
  Answers of groups without signal then have gradient exactly 0 and are not sent through the model.
* A missing score takes its answer out of the group, and gives it advantage 0.
* DAPO's dynamic sampling has a budget (`extra_rollouts`); once it is spent, the step trains on the
  mixed groups that were found. Its overlong filter is left out for the soft penalty.
* RLOO is written with the token ratio, which is 1 when each batch is used once: the same gradient.

Known failure modes: groups all wrong or all right give nothing (watch `groups/*`); pass@k falls
while pass@1 rises, as entropy goes; std scaling blows up the smallest differences of graded scores.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rekindle.engine.batch import Batch, MicroBatch, count, pack
from rekindle.engine.config import SampleConfig, Section
from rekindle.engine.policy import Policy
from rekindle.engine.update import LossFn, LossTerms, fresh_state, update
from rekindle.methods.checks import refuse_group_of_one, refuse_sampling_without_ratio
from rekindle.methods.collect import Collected
from rekindle.methods.world import World
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows
from rekindle.ops.logprobs import kl_k3
from rekindle.ops.weights import Reduction

STATS = ("kl", "clip_ratio", "ratio/mean", "entropy/trained", "logprobs/sampler_gap")

# --- the formulas


class GRPOTerms(NamedTuple):
    loss_BT: Float[Tensor, "B T"]
    ratio_BT: Float[Tensor, "B T"]
    clipped_BT: Float[Tensor, "B T"]  # 1 where the clip holds the gradient back
    kl_BT: Float[Tensor, "B T"]


def grpo_loss(
    logprobs_BT: Float[Tensor, "B T"],
    old_logprobs_BT: Float[Tensor, "B T"],
    advantage_B: Float[Tensor, " B"],
    ref_logprobs_BT: Float[Tensor, "B T"] | None = None,
    *,
    clip_low: float,
    clip_high: float,
    beta: float = 0.0,
) -> GRPOTerms:
    """Per-token clipped surrogate with k3 penalty (2402.03300 eq. 3; 2503.14476 eq. 10).

    Gradients flow through `logprobs_BT` alone. Without a reference the KL is nan.
    """
    ratio_BT = (logprobs_BT - old_logprobs_BT).exp()
    advantage_B1 = advantage_B[:, None].to(ratio_BT)
    free_BT = ratio_BT * advantage_B1
    held_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high) * advantage_B1
    loss_BT = -torch.minimum(free_BT, held_BT)
    kl_BT = torch.full_like(loss_BT, math.nan)
    if ref_logprobs_BT is not None:
        kl_BT = kl_k3(logprobs_BT, ref_logprobs_BT)
        loss_BT = loss_BT + beta * kl_BT
    return GRPOTerms(loss_BT, ratio_BT, (held_BT < free_BT).to(loss_BT), kl_BT)


def soft_overlong(
    num_tokens_N: Float[Tensor, " N"], *, max_tokens: int, buffer: int
) -> Float[Tensor, " N"]:
    """0 up to `max_tokens - buffer`, then linearly to -1 at `max_tokens` (2503.14476 eq. 13)."""
    if buffer == 0:
        return torch.zeros_like(num_tokens_N)
    return ((max_tokens - buffer - num_tokens_N) / buffer).clamp(-1.0, 0.0)


_ADVANTAGES = {
    "std": groups.standardise, "none": groups.centre, "leave_one_out": groups.leave_one_out
}  # fmt: skip


def credit(rows: ScoredRows, config: "Config", *, max_tokens: int | None = None) -> Credit:
    """Rewards and advantages of whole groups, fp64, whatever the order of the rows.

    nan is a missing score; `max_tokens` None leaves the overlong penalty out.
    """
    reward_N = rows.correct_N.double()
    if max_tokens is not None and config.overlong > 0:
        buffer = round(config.overlong * max_tokens)
        reward_N = reward_N + soft_overlong(rows.num_tokens_N, max_tokens=max_tokens, buffer=buffer)
    grouping = groups.group_rows(rows.group)
    advantage_PG = _ADVANTAGES[config.scale](grouping.gather(reward_N))
    return Credit(
        reward_N=reward_N,
        advantage_N=grouping.scatter(advantage_PG),
        group_class_N=groups.classify_rows(rows.correct_N, grouping),
        columns={},
    )


# --- what can be set


class Config(Section):
    """GRPO's knobs; the values of the presets are in `PRESETS`."""

    group_size: int = Field(default=8, description="answers a problem (G); the papers use 8 to 64")
    scale: Literal["std", "none", "leave_one_out"] = Field(
        default="std", description="how advantages are scaled (2402.03300 sec. 4.1.2)"
    )
    reduction: Reduction = Field(default="sequence", description="2402.03300 eq. 3")
    budget: int | None = Field(
        default=None, ge=1, description="tokens of the constant reduction; None: max_new_tokens"
    )
    clip_low: float = Field(default=0.2, ge=0.0, le=1.0)
    clip_high: float = Field(default=0.2, ge=0.0)
    beta: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")
    minibatches: int = Field(default=1, ge=1, description="updates from one rollout batch")
    epochs: int = Field(default=1, ge=1, description="passes over one rollout batch")
    overlong: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of max_new_tokens with a length penalty"
    )
    extra_rollouts: float = Field(
        default=0.0,
        ge=0.0,
        description="dynamic sampling: extra problems, as a multiple of a step's",
    )


PRESETS: dict[str, Config] = {
    "grpo": Config(),
    "dr_grpo": Config(scale="none", reduction="constant"),
    "dapo": Config(reduction="token", clip_high=0.28, overlong=0.2, extra_rollouts=2.0),
    "rloo": Config(scale="leave_one_out", reduction="constant", budget=1),
}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample groups, score them, weigh them against each other, step; `optim.steps` times."""
    policy, optim = world.policy, world.optim
    reference = policy.frozen_copy() if config.beta > 0 else None
    state = world.restore(fresh_state({"policy": policy.model}, optim))
    for step in world.steps(state):
        collected = world.collect(
            state, samples=config.group_size, extra_rollouts=config.extra_rollouts
        )
        earned = credit(collected.rows, config, max_tokens=world.sample.max_new_tokens)
        with world.clock("update"):
            batches = weigh(config, world, collected, earned, reference)
            updates = [
                update(
                    state,
                    batch.split(world.micro_tokens),
                    objective(policy, config, temperature=world.sample.temperature),
                    clip=optim.clip,
                    group=world.group,
                    device=policy.device,
                    stats=STATS,
                )
                for _ in range(config.epochs)
                for batch in batches
            ]
        world.log_rollouts(step, updates, collected, earned, batches)
    return policy


def weigh(
    config: Config, world: World, collected: Collected, earned: Credit, reference: Policy | None
) -> list[Batch]:
    """The minibatches of a rollout batch: weights over all answers, then only rows with signal."""
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
        if reference is None:
            batch = batch.with_signal()
        else:
            batch = batch.replace(ref_logprobs_BT=world.score(reference, batch))
        if config.minibatches * config.epochs > 1:
            batch = batch.replace(old_logprobs_BT=world.score(world.policy, batch))
        batches.append(batch)
    return batches


def objective(policy: Policy, config: Config, *, temperature: float) -> LossFn:
    """The loss of a micro-batch; `old` is the forward pass itself when a batch is used once."""
    used_once = config.minibatches * config.epochs == 1

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(
            micro.tokens_BS, micro.attend_BS, start=micro.start, temperature=temperature
        )
        new_BT = scores.logprobs_BT
        # Padding has no old or reference value; one that gives a ratio of 1 keeps nan out of the
        # gradient.
        still_BT = new_BT.detach()
        old_BT = still_BT if used_once else micro.filled(micro.old_logprobs_BT, still_BT)
        terms = grpo_loss(
            new_BT,
            old_BT,
            micro.advantage_B,
            micro.filled(micro.ref_logprobs_BT, still_BT) if config.beta > 0 else None,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            beta=config.beta,
        )
        gap_BT = (old_BT - micro.sampled_logprobs_BT.to(new_BT)).abs()
        stats = (terms.kl_BT, terms.clipped_BT, terms.ratio_BT, scores.entropy_BT, gap_BT)
        return LossTerms(terms.loss_BT, dict(zip(STATS, stats, strict=True)))

    return loss


def check(config: Config, sample: SampleConfig) -> None:
    """Refuse what cannot be meant; called before anything is loaded."""
    refuse_group_of_one(config.group_size, "grpo")
    refuse_sampling_without_ratio(sample)
