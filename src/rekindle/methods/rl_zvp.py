"""RL-ZVP: entropy decides which tokens of a group without variance are credited.

No Prompt Left Behind: Exploiting Zero-Variance Prompts in LLM Reinforcement Learning via
Entropy-Guided Advantage Shaping, Le et al. 2025, arXiv 2509.21880, eq. 5-6.

    A_it = GRPO's advantage                          in mixed groups
           a H_it                                    in groups all right
           -a (max_k H_ik - H_it)                    in groups all wrong

H_it is the full-vocabulary entropy of the policy that sampled, at token t of answer i, without
gradient. The rest is DAPO's step without dynamic sampling: clip 0.2 / 0.28, all tokens count the
same. Axes: P problems, G answers a problem, N = P * G rows, B sequences, T tokens.

What we changed or left out, and why:
* A row's advantage is a or -a and a factor at each token carries the entropy, so that
  `explain advantages`, which knows no tokens, shows the former.
* A missing score takes its answer out of the group. A group of equal partial scores is neither
  right nor wrong: its sign is 0 and its advantage GRPO's, which is 0.

Known failure modes: `a` above 0.1 lets zero-variance groups lead (0.05 and 0.30 hurt in table 6).
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
from rekindle.ops.weights import Reduction

# --- the formulas


def entropy_factor(
    entropy_BT: Float[Tensor, "B T"], sign_B: Float[Tensor, " B"]
) -> Float[Tensor, "B T"]:
    """The factor of each token (eq. 5-6): H where sign is 1, max H - H where -1, 1 where 0.

    Padding (nan) never holds the maximum; its factor is 1.
    """
    most_B1 = entropy_BT.nan_to_num(nan=-torch.inf).amax(dim=1, keepdim=True)
    sign_B1 = sign_B[:, None]
    factor_BT = torch.where(sign_B1 > 0, entropy_BT, most_B1 - entropy_BT)
    return torch.where(sign_B1 == 0, 1.0, factor_BT).nan_to_num(nan=1.0)


def credit(rows: ScoredRows, config: "Config") -> Credit:
    """Advantages of whole groups, fp64, whatever the order of the rows; `sign` is 1 in groups all
    right, -1 in groups all wrong, 0 in others.

    Raises:
        DataError: a score outside 0 to 1.
    """
    check_rows(rows)
    grouping = groups.group_rows(rows.group)
    classes = groups.classify_rows(rows.correct_N, grouping)
    signs = {"all_right": 1.0, "all_wrong": -1.0}
    sign_N = torch.tensor([signs.get(name, 0.0) for name in classes], dtype=torch.float64)
    sign_N = sign_N.masked_fill(rows.correct_N.isnan(), 0.0)
    relative_N = grouping.scatter(groups.standardise(grouping.gather(rows.correct_N)))
    return Credit(
        reward_N=rows.correct_N.double(),
        advantage_N=torch.where(sign_N == 0, relative_N, config.a * sign_N),
        group_class_N=classes,
        columns={"sign": sign_N},
    )


# --- what can be set


class Config(StepConfig):
    """RL-ZVP's setting, and those of the step."""

    a: float = Field(default=0.10, ge=0.0, description="alpha of eq. 5-6, table 6")
    reduction: Reduction = Field(default="token", description="as DAPO's")
    clip_high: float = Field(default=0.28, ge=0.0, description="as DAPO's")
    kl: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")


check = check_group_settings
PRESETS: dict[str, Config] = {"rl_zvp": Config()}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample groups, verify them, measure entropies, shape what has no variance, step."""
    for step in group_loop(config, world, kl=config.kl):
        advantages = credit(step.rows, config)
        sign_B = advantages.columns["sign"][step.collected.position]
        step.update(advantages, shape_BT=entropy_factor(step.entropies(), sign_B))
    return world.policy
