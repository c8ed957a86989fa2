"""LENS, Likelihood Estimation with Negative Samples.

Don't Waste Mistakes: Leveraging Negative RL-Groups via Confidence Reweighting, Feng et al. 2025,
arXiv 2510.08696.

A wrong answer that the model was confident of is penalised more than an unlikely one, so that a
group without a single right answer still says something.

    pibar_i = pi_old(o_i)^(1/|o_i|)                     mean token probability, sec. 5.1
    D_imp   = [ (1/G) sum_i r_i / pibar_i ]^-1          difficulty, eq. 14
    D       = max(D_imp, 2 max_j pibar_j) in mixed groups, 2 max_j pibar_j in all-wrong ones
    r~_i    = r_i - (1 - r_i) s pibar_i / (D - pibar_i)         s = 1/G, sec. 5.1
    A_i     = (r~_i - mean) / (std + 1e-6)   mixed groups
              alpha (r~_i - mean)            all-wrong groups

The rest is GRPO (`loops/group_step.py`). Axes: P problems, G answers a problem, N = P * G rows.

What we changed or left out, and why:
* Penalties are computed from log-probs, so that no answer is too long for them. D >= 2 max pibar
  keeps each within (0, 1].
* difficulty "geometric" reads pi in eq. 14 as pibar. Read to the letter ("raw"), pi is the whole
  answer's probability: D_imp is then below 2 max pibar for any answer of more than a few tokens.
* neg_scale "per_group" is the displayed formula. Its 1/G serves mixed groups (right answers stay
  above wrong ones); in all-wrong groups it leaves about a thousandth of a mixed group's signal.
  "unit" drops it there.
* alpha multiplies the advantage. The denominators of the loss stay those of all answers: alpha J
  of the paper's sum, whatever the share of all-wrong groups.
* Log-probs are the trainer's own forward at the sampling temperature, taken before the first update
  and over whole groups; `logprobs: sampler` takes the sampler's, and saves that forward.
* A missing score takes its answer out of the group, G with it.

Facts that are tested: in a mixed group every right answer has A > 0 and every wrong one A < 0. In
an all-wrong group A depends on differences of mean log-probs alone and sums to 0: less likely
answers are pushed up by as much as likely ones are pushed down.

Known failure modes: that push feeds itself where most groups are all wrong (entropy and length run
away with `neg_scale: unit` and a large alpha); repetition has pibar near 1 and hides the others.
"""

import math
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from rekindle.engine.policy import Policy
from rekindle.loops.checks import check_group_settings, check_rows
from rekindle.loops.group_step import StepConfig, group_loop
from rekindle.loops.world import World
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows

Difficulty = Literal["geometric", "raw"]

# --- the formulas


class Penalties(NamedTuple):
    """What a wrong answer loses, and which difficulty set it."""

    penalty_PG: Float[Tensor, "P G"]  # in (0, 1]; nan at padding
    from_right_P: Bool[Tensor, " P"]  # D is D_imp, not 2 max pibar


def penalties(
    correct_PG: Float[Tensor, "P G"],
    logprob_PG: Float[Tensor, "P G"],
    num_tokens_PG: Float[Tensor, "P G"],
    *,
    difficulty: Difficulty,
) -> Penalties:
    """pibar / (D - pibar) of every answer, in log space (sec. 5.1, eq. 14).

    Args:
        correct_PG: 0 to 1; nan where there is no answer or no score.
        logprob_PG: log-probs of whole answers, nats.
        num_tokens_PG: their lengths, end token included.
    """
    mean_PG = logprob_PG / num_tokens_PG.clamp(min=1)
    mean_PG = mean_PG.masked_fill(correct_PG.isnan(), -math.inf)
    inner_PG = mean_PG if difficulty == "geometric" else logprob_PG
    # log of sum_i r_i / pi_i: wrong answers and padding count nothing
    terms_PG = correct_PG.nan_to_num(nan=0.0).log() - inner_PG.nan_to_num(neginf=0.0)
    count_P = (~correct_PG.isnan()).sum(dim=1).double()
    implied_P = count_P.log() - terms_PG.logsumexp(dim=1)  # inf where nothing is right
    twice_P = math.log(2) + mean_PG.amax(dim=1)
    from_right_P = implied_P.isfinite() & (implied_P > twice_P)
    log_d_P = torch.where(from_right_P, implied_P, twice_P)
    # x / (D - x) = 1 / (D / x - 1), and log(D / x) >= log 2
    penalty_PG = (1 / torch.expm1(log_d_P[:, None] - mean_PG)).clamp(max=1)
    return Penalties(penalty_PG.masked_fill(correct_PG.isnan(), math.nan), from_right_P)


def credit(rows: ScoredRows, config: "Config") -> Credit:
    """Calibrated rewards and advantages of whole groups, fp64, whatever the order of the rows.

    Raises:
        DataError: a scored row without a log-prob, or a score outside 0 to 1; the row is named.
    """
    check_rows(rows, needs=("sum_logprob_N", "num_tokens_N"))
    grouping = groups.group_rows(rows.group)
    correct_PG = grouping.gather(rows.correct_N)
    logprob_PG = grouping.gather(rows.sum_logprob_N)
    tokens_PG = grouping.gather(rows.num_tokens_N)
    penalty = penalties(correct_PG, logprob_PG, tokens_PG, difficulty=config.difficulty)
    negative_P1 = correct_PG.nan_to_num(nan=0.0).amax(dim=1, keepdim=True) == 0
    count_P1 = (~correct_PG.isnan()).sum(dim=1, keepdim=True).clamp(min=1).double()
    unit_P1 = negative_P1 & (config.neg_scale == "unit")
    scale_P1 = torch.where(unit_P1, 1.0, 1 / count_P1)
    if config.on != "both":
        scale_P1 = scale_P1 * (negative_P1 == (config.on == "negative"))
    penalty_PG = rearranged(
        penalty.penalty_PG, correct_PG, tokens_PG, grouping.keys, config.penalty
    )
    reward_PG = correct_PG - (1 - correct_PG) * scale_P1 * penalty_PG
    centred_PG = groups.centre(reward_PG)
    if config.penalty == "uniform":  # nothing is left to compare: all are pushed down alike
        theirs_PG = groups.centre(-scale_P1 * penalty.penalty_PG)
        size_P1 = theirs_PG.abs().sum(dim=1, keepdim=True) / count_P1
        centred_PG = torch.where(negative_P1, (-size_P1).where(~correct_PG.isnan(), 0), centred_PG)
    mixed_PG = groups.standardise(reward_PG) if config.scale == "std" else centred_PG
    return Credit(
        reward_N=grouping.scatter(reward_PG),
        advantage_N=grouping.scatter(torch.where(negative_P1, config.alpha * centred_PG, mixed_PG)),
        group_class_N=groups.classify_rows(rows.correct_N, grouping, reward_PG),
        columns={"penalty": grouping.scatter(penalty_PG * (correct_PG < 1))},
    )


def rearranged(
    penalty_PG: Float[Tensor, "P G"],
    correct_PG: Float[Tensor, "P G"],
    num_tokens_PG: Float[Tensor, "P G"],
    keys: Sequence[Hashable],
    how: Literal["confidence", "uniform", "shuffled"],
) -> Float[Tensor, "P G"]:
    """The controls: the same penalties among the wrong answers of a group, but not by confidence.

    `uniform`: each gets their mean. `shuffled`: they change places by a permutation of their ranks,
    drawn from the group's key and the lengths of its answers: neither the order of the rows nor
    rounding moves it.
    """
    if how == "confidence":
        return penalty_PG
    wrong_PG = correct_PG < 1
    if how == "uniform":
        mean_P1 = penalty_PG.masked_fill(~wrong_PG, math.nan).nanmean(dim=1, keepdim=True)
        return torch.where(wrong_PG, mean_P1, penalty_PG)
    out_PG = penalty_PG.clone()
    for p, key in enumerate(keys):
        places = torch.nonzero(wrong_PG[p]).flatten()
        ranked = places[penalty_PG[p, places].argsort()]
        lengths = sorted(num_tokens_PG[p, ~correct_PG[p].isnan()].tolist())
        seed = int.from_bytes(blake2b(f"{key} {lengths}".encode(), digest_size=7).digest())
        other = torch.randperm(len(ranked), generator=torch.Generator().manual_seed(seed))
        out_PG[p, ranked] = penalty_PG[p, ranked[other]]
    return out_PG


# --- what can be set


class Config(StepConfig):
    """LENS's settings, and those of the step."""

    group_size: int = Field(default=16, description="G, sec. 6; 8 is what the testbed uses")
    alpha: float = Field(default=0.25, ge=0.0, description="weight of all-wrong groups, sec. 5.1")
    difficulty: Difficulty = Field(default="geometric", description="pi in eq. 14")
    neg_scale: Literal["per_group", "unit"] = Field(
        default="per_group", description="1/G or 1 in all-wrong groups"
    )
    scale: Literal["std", "none"] = Field(default="std", description="of mixed groups, eq. 2")
    on: Literal["both", "negative", "mixed"] = Field(
        default="both",
        description="groups with penalties (table 2): all wrong, the others, or both",
    )
    penalty: Literal["confidence", "uniform", "shuffled"] = Field(
        default="confidence", description="the others are controls of the same size"
    )
    kl: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")
    logprobs: Literal["trainer", "sampler"] = Field(
        default="trainer", description="whose log-probs of the answers"
    )


check = check_group_settings
PRESETS: dict[str, Config] = {
    "lens": Config(),
    "lens_negative": Config(on="negative"),
    "lens_mixed": Config(on="mixed"),
    "lens_uniform": Config(penalty="uniform"),
    "lens_shuffled": Config(penalty="shuffled"),
}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample groups, measure how confident each answer was, penalise the wrong ones, step."""
    for step in group_loop(config, world, kl=config.kl, logprobs=config.logprobs):
        advantages = credit(step.rows, config)
        step.update(advantages, penalty_facts(step.rows, advantages))
    return world.policy


def penalty_facts(rows: ScoredRows, advantages: Credit) -> dict[str, float]:
    """How large penalties are, and whether all-wrong groups push towards longer answers."""
    penalty_N = advantages.columns["penalty"][rows.correct_N < 1]
    negative_N = torch.tensor([name == "all_wrong" for name in advantages.group_class_N])
    return {
        "penalty/mean": float(penalty_N.mean()) if len(penalty_N) else math.nan,
        "penalty/median": float(penalty_N.median()) if len(penalty_N) else math.nan,
        "advantage/length_correlation": correlation(
            advantages.advantage_N[negative_N], rows.num_tokens_N[negative_N]
        ),
    }


def correlation(first_N: Float[Tensor, " N"], second_N: Float[Tensor, " N"]) -> float:
    """Pearson's; nan where one does not vary."""
    if len(first_N) < 2 or first_N.std() == 0 or second_N.std() == 0:
        return math.nan
    return float(torch.corrcoef(torch.stack([first_N.double(), second_N.double()]))[0, 1])
