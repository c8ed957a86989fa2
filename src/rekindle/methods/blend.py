"""What HERO is compared with: a verifier, a reward model, and the plain ways to use both.

The baselines of Hybrid Reinforcement, Tao et al. 2025, arXiv 2510.07242 (sec. 4, table 9).

    verifier_only   r_i = v_i
    rm_only         r_i = m_i
    naive_blend     r_i = share v_i + (1 - share) m_i              table 9: share 0.1, 0.5, 0.9
    gated           r_i = HERO's band within the verdict in groups of one verdict, v_i in others

v_i is the verifier's verdict, m_i the reward model's score. GRPO's advantage of r_i, GRPO's step.
`gated` is not in the paper: it isolates what the reward model adds where the verifier is silent.

What we changed or left out, and why:
* `squash` puts a sigmoid around m_i: heads trained by Bradley-Terry or on correctness are logits,
  and a verdict of 1 says little beside a raw score of 30. The paper is silent; raw is the default.
* An answer that lacks a score it needs is left out of its group.

Axes: P problems, G answers a problem, N = P * G rows.

Known failure modes: `rm_only` is gamed (watch `rm/auc` fall while `rm/mean` rises); a raw blend is
either of the two, by the scale of the scores.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rekindle.engine.policy import Policy
from rekindle.loops.checks import check_group_settings, check_rows, refuse_no_reward_model
from rekindle.loops.group_step import StepConfig, group_loop
from rekindle.loops.world import World
from rekindle.methods.hero import stratified
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows
from rekindle.ops.weights import Reduction

# --- the formulas


def blended(
    correct_PG: Float[Tensor, "P G"], rm_score_PG: Float[Tensor, "P G"], *, share: float
) -> Float[Tensor, "P G"]:
    """share v + (1 - share) m; what has no part in it may be missing."""
    if share == 1:
        return correct_PG
    verdict_PG = correct_PG.masked_fill(correct_PG.isnan(), 0.0) if share == 0 else correct_PG
    return share * verdict_PG + (1 - share) * rm_score_PG


def gated(
    correct_PG: Float[Tensor, "P G"], rm_score_PG: Float[Tensor, "P G"], *, alpha: float
) -> Float[Tensor, "P G"]:
    """The verdict in groups that hold both, HERO's band in groups that hold one."""
    bands = stratified(correct_PG, rm_score_PG, alpha=alpha, beta=alpha)
    one_P1 = groups.is_tied(correct_PG)[:, None]
    return torch.where(one_P1, bands.reward_PG, correct_PG)


def credit(rows: ScoredRows, config: "Config") -> Credit:
    """Rewards and advantages of whole groups, fp64, whatever the order of the rows.

    Raises:
        DataError: a score outside 0 to 1, or no reward model where one is needed.
    """
    check_rows(rows)
    if config.gate or config.share < 1:
        refuse_no_reward_model(rows)
    grouping = groups.group_rows(rows.group)
    correct_PG, rm_PG = grouping.gather(rows.correct_N), grouping.gather(rows.rm_score_N)
    rm_PG = torch.sigmoid(rm_PG) if config.squash else rm_PG
    if config.gate:
        reward_PG = gated(correct_PG, rm_PG, alpha=config.alpha)
    else:
        reward_PG = blended(correct_PG, rm_PG, share=config.share)
    scale = groups.standardise if config.scale == "std" else groups.centre
    return Credit(
        reward_N=grouping.scatter(reward_PG),
        advantage_N=grouping.scatter(scale(reward_PG)),
        group_class_N=groups.classify_rows(rows.correct_N, grouping, reward_PG),
        columns={},
    )


# --- what can be set


class Config(StepConfig):
    """The comparators' settings, and those of the step: HERO's values, so that the two compare."""

    reduction: Reduction = Field(default="token", description="as HERO's")
    clip_high: float = Field(default=0.28, ge=0.0, description="as HERO's")
    kl: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")
    share: float = Field(default=1.0, ge=0.0, le=1.0, description="of the verifier, table 9")
    gate: bool = Field(default=False, description="the reward model in groups of one verdict only")
    alpha: float = Field(default=0.05, ge=0.0, le=1.0, description="half width of the gate's band")
    squash: bool = Field(default=False, description="sigmoid of the reward model's score")
    scale: Literal["std", "none"] = Field(default="std", description="GRPO's")


check = check_group_settings
PRESETS: dict[str, Config] = {
    "verifier_only": Config(),
    "rm_only": Config(share=0.0),
    "naive_blend": Config(share=0.5),
    "gated": Config(gate=True),
}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample groups, verify and score them, blend, step."""
    for step in group_loop(config, world, kl=config.kl):
        step.update(credit(step.rows, config))
    return world.policy
