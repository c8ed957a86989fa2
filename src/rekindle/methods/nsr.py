"""PSR, NSR and W-REINFORCE: learning from right or from wrong answers alone.

The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning, Zhu et al. 2025, arXiv
2506.01347.

    A_i = positive r_i - negative (1 - r_i)
          psr 1, 0      nsr 0, 1      w_reinforce 0.1, 1

No baseline and no scaling: a group all wrong gives -1 to each answer, one all right nothing or
`positive`. The rest is GRPO's step. Axes: N rows.

What we changed or left out, and why:
* The paper writes the loss on the probability itself; its code, like ours, has the clipped ratio.
* A missing score gives advantage 0.

Known failure modes: pure NSR degrades over hundreds of steps, as what is pushed down goes nowhere
in particular; PSR sharpens and loses pass@k.
"""

from pydantic import Field

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.loops.checks import check_rows, check_sampling
from rekindle.loops.group_step import StepConfig, group_loop
from rekindle.loops.world import World
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows

# --- the formula


def credit(rows: ScoredRows, config: "Config") -> Credit:
    """Advantages of single rows, fp64: groups do not matter.

    Raises:
        DataError: a score outside 0 to 1.
    """
    check_rows(rows)
    reward_N = rows.correct_N.double()
    advantage_N = config.positive * reward_N - config.negative * (1 - reward_N)
    return Credit(
        reward_N=reward_N,
        advantage_N=advantage_N.nan_to_num(nan=0.0),
        group_class_N=groups.classify_rows(rows.correct_N, groups.group_rows(rows.group)),
        columns={},
    )


# --- what can be set


class Config(StepConfig):
    """The weights of right and wrong answers, and the settings of the step."""

    positive: float = Field(default=0.1, ge=0.0, description="lambda, sec. 5")
    negative: float = Field(default=1.0, ge=0.0, description="of wrong answers")
    kl: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")


PRESETS: dict[str, Config] = {
    "psr": Config(positive=1.0, negative=0.0),
    "nsr": Config(positive=0.0),
    "w_reinforce": Config(),
}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample answers, verify them, push right ones up and wrong ones down, step."""
    for step in group_loop(config, world, kl=config.kl):
        step.update(credit(step.rows, config))
    return world.policy


def check(config: Config, sample: SampleConfig) -> None:
    """Refuse what cannot be meant; called before anything is loaded."""
    check_sampling(sample)
