"""Toy penalty: a method for tests, as somebody would add one: a paper's file, and nothing else.

The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning, Zhu et al. 2025, arXiv
2506.01347.

    A_i = -penalty (1 - r_i)

Axes: N rows.

Known failure modes: none that matter here.
"""

from pydantic import Field

from rekindle.engine.policy import Policy
from rekindle.loops.checks import check_group_settings
from rekindle.loops.group_step import StepConfig, group_loop
from rekindle.loops.world import World
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows


def credit(rows: ScoredRows, config: "Config") -> Credit:
    """Wrong answers are penalised."""
    reward_N = rows.correct_N.double()
    return Credit(
        reward_N=reward_N,
        advantage_N=(-config.penalty * (1 - reward_N)).nan_to_num(nan=0.0),
        group_class_N=groups.classify_rows(rows.correct_N, groups.group_rows(rows.group)),
        columns={},
    )


class Config(StepConfig):
    """The penalty, and what every group method has."""

    penalty: float = Field(default=0.5, ge=0.0, description="of a wrong answer")


check = check_group_settings
PRESETS: dict[str, Config] = {"toy_penalty": Config()}


def run(config: Config, world: World) -> Policy:
    """Sample, penalise, step."""
    for step in group_loop(config, world):
        step.update(credit(step.rows, config))
    return world.policy
