"""NGRPO: a virtual right answer in every group, so that a group all wrong has a mean to be below.

NGRPO: Negative-enhanced Group Relative Policy Optimization, Nan et al. 2025, arXiv 2509.18851.

    A_i = (r_i - mean r') / (std r' + 1e-6),   r' = r and `virtual` times 1

One virtual reward of 1 by default, sample standard deviation; a group all right is tied and gives
nothing. Clip bounds 0.16 and 0.24. The rest is GRPO's step. Axes: P problems, G answers a problem,
N = P * G rows.

What we changed or left out, and why:
* The paper clips answers of negative advantage at 0.16 and of positive at 0.24; its code, like
  ours, has one pair of bounds for the ratio, 0.16 below and 0.24 above: the same answers are bound.
* A missing score takes its answer out of the group.

Known failure modes: every all-wrong group pushes all its answers down by the same amount, which
raises entropy without direction.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rekindle.engine.policy import Policy
from rekindle.loops.checks import check_group_settings, check_rows
from rekindle.loops.group_step import StepConfig, group_loop
from rekindle.loops.world import World
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows

# --- the formula


def with_virtual(reward_PG: Float[Tensor, "P G"], virtual: int) -> Float[Tensor, "P G"]:
    """Standardised among the real and `virtual` rewards of 1; 0 where nothing is real."""
    ones_PK = reward_PG.new_ones(len(reward_PG), virtual)
    whole_PG = groups.standardise(torch.cat([reward_PG, ones_PK], dim=1))
    return whole_PG[:, : reward_PG.shape[1]]


def credit(rows: ScoredRows, config: "Config") -> Credit:
    """Rewards and advantages of whole groups, fp64, whatever the order of the rows.

    Raises:
        DataError: a score outside 0 to 1.
    """
    check_rows(rows)
    grouping = groups.group_rows(rows.group)
    return Credit(
        reward_N=rows.correct_N.double(),
        advantage_N=grouping.scatter(with_virtual(grouping.gather(rows.correct_N), config.virtual)),
        group_class_N=groups.classify_rows(rows.correct_N, grouping),
        columns={},
    )


# --- what can be set


class Config(StepConfig):
    """NGRPO's settings, and those of the step."""

    clip_low: float = Field(default=0.16, ge=0.0, le=1.0, description="of the code")
    clip_high: float = Field(default=0.24, ge=0.0, description="of the code")
    virtual: int = Field(default=1, ge=1, description="virtual rewards of 1 in each group")
    kl: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")


check = check_group_settings
PRESETS: dict[str, Config] = {"ngrpo": Config()}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample groups, verify them, compare them with a right answer that is not there, step."""
    for step in group_loop(config, world, kl=config.kl):
        step.update(credit(step.rows, config))
    return world.policy
