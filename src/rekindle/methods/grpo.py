"""Group Relative Policy Optimization and its close kin.

GRPO      DeepSeekMath, Shao et al. 2024, arXiv 2402.03300, eq. 3-4
Dr. GRPO  Understanding R1-Zero-like Training, Liu et al. 2025, arXiv 2503.20783, eq. 3
DAPO      An Open-Source LLM RL System at Scale, Yu et al. 2025, arXiv 2503.14476, eq. 8-13
RLOO      Back to Basics, Ahmadian et al. 2024, arXiv 2402.14740, eq. 9

    loss_it = clipped surrogate of A_i, plus beta k3_it: ops/surrogate.py
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
* DAPO's dynamic sampling goes by the verifier's scores, before any penalty on length: groups in
  which they are all equal, partial scores too, are left out. It has a budget (`extra_rollouts`);
  once that is spent, the step trains on the groups that there are. Its overlong filter is left out
  for the soft penalty.
* RLOO is written with the token ratio, which is 1 when each batch is used once: the same gradient.

Known failure modes: groups of equal rewards give nothing (watch `groups/no_signal`); pass@k falls
while pass@1 rises, as entropy goes; std scaling blows up the smallest differences of graded scores.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, zeros_like

from rekindle.engine.policy import Policy
from rekindle.engine.state import Scalar
from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.loops.checks import check_group_settings
from rekindle.loops.group_step import StepConfig, group_loop
from rekindle.loops.world import World
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows

# --- the formulas


def soft_overlong(
    num_tokens_N: Float[Tensor, " N"], *, max_tokens: int, buffer: int
) -> Float[Tensor, " N"]:
    """0 up to `max_tokens - buffer`, then linearly to -1 at `max_tokens` (2503.14476 eq. 13)."""
    if buffer == 0:
        return zeros_like(num_tokens_N)
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
    reward_PG = grouping.gather(reward_N)
    return Credit(
        reward_N=reward_N,
        advantage_N=grouping.scatter(_ADVANTAGES[config.scale](reward_PG)),
        group_class_N=groups.classify_rows(rows.correct_N, grouping, reward_PG),
        columns={},
    )


# --- what can be set


class Config(StepConfig):
    """GRPO's settings; the values of the presets are in `PRESETS`."""

    scale: Literal["std", "none", "leave_one_out"] = Field(
        default="std", description="how advantages are scaled (2402.03300 sec. 4.1.2)"
    )
    beta: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")
    overlong: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of max_new_tokens with a length penalty"
    )
    extra_rollouts: float = Field(
        default=0.0,
        ge=0.0,
        description="dynamic sampling: extra problems, as a multiple of a step's",
    )
    entropy_curve: str | None = Field(
        default=None,
        description="run directory whose entropy the bonus follows; entropy_bonus is its start",
    )
    entropy_rate: float = Field(
        default=0.02, gt=0.0, description="change of the bonus a step, per nat below the curve"
    )


check = check_group_settings
PRESETS: dict[str, Config] = {
    "grpo": Config(),
    "dr_grpo": Config(scale="none", reduction="constant"),
    "dapo": Config(reduction="token", clip_high=0.28, overlong=0.2, extra_rollouts=2.0),
    "rloo": Config(scale="leave_one_out", reduction="constant", budget=1),
    "grpo_mean": Config(scale="none"),
    "grpo_dynamic": Config(extra_rollouts=2.0),
    "grpo_entropy": Config(entropy_bonus=0.01),
}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample groups, score them, weigh them against each other, step; `optim.steps` times."""
    curve = entropy_curve(config.entropy_curve) if config.entropy_curve else {}
    longest = world.sample.max_new_tokens
    for step in group_loop(config, world, kl=config.beta, extra_rollouts=config.extra_rollouts):
        advantages = credit(step.rows, config, max_tokens=longest)
        bonus = follow(curve, step.number, mean_entropy(step.rows), config, step.scalars)
        step.update(advantages, {"entropy_bonus": bonus}, entropy_weight=bonus)
    return world.policy


def entropy_curve(directory: str) -> dict[int, float]:
    """`entropy` at each step of another run.

    Raises:
        DataError: the run has no such metric.
    """
    path = Path(directory) / "metrics.jsonl"
    entropies = {row["step"]: row.get("entropy") for _, row in read_jsonl(path)}
    curve = {int(step): float(value) for step, value in entropies.items() if value is not None}
    if not curve:
        raise DataError(f"{path} has no entropy", wanted="the run of a method that samples")
    return curve


def mean_entropy(rows: ScoredRows) -> float:
    """-log p of what was sampled, averaged over tokens: unbiased for the policy's entropy."""
    return -float(rows.sum_logprob_N.sum() / rows.num_tokens_N.sum())


def follow(
    curve: Mapping[int, float],
    step: int,
    entropy: float,
    config: Config,
    scalars: dict[str, Scalar],
) -> float:
    """The entropy bonus of a step: raised while the policy's entropy is below the curve's.

    Integral control, so that the bonus ends up where the two entropies agree: the control that
    tells a method's effect from that of its entropy.
    """
    bonus = float(scalars.get("entropy_bonus") or config.entropy_bonus)
    if curve:
        gap = curve[min(step, max(curve))] - entropy
        bonus = max(0.0, bonus + config.entropy_rate * gap)
        scalars["entropy_bonus"] = bonus
    return bonus
