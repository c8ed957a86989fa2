"""HERO, hybrid ensemble reward optimization: a reward model's scores within a verifier's verdicts.

Hybrid Reinforcement: When Reward Is Sparse, It's Better to Be Dense, Tao et al. 2025, arXiv
2510.07242.

    z_i    = (m_i - min) / (max - min + eps)        within a problem and a verdict, eq. 3
    rhat_i = -alpha + 2 alpha z_i  if rejected,   1 - beta + 2 beta z_i  if accepted
    w_u    = w_min + (w_max - w_min) sigmoid(k (sigma_u - sigma))                            eq. 4
    A_i    = w_u * GRPO's advantage of rhat_i       weight_on: advantage (default)
             GRPO's advantage of w_u * rhat_i       weight_on: reward, eq. 5 to the letter

m_i is the reward model's score, sigma_u its standard deviation (ddof 0) over all answers to problem
u, sigma the running mean of sigma_u. The rest is GRPO (`loops/group_step.py`). Axes: P problems, G
answers a problem, N = P * G rows.

What follows from the algebra (each has its test):
1. Under `scale: std` a weight on the reward cancels: A(w r) = A(r) but for eps. Eq. 5 is then a
   no-op, which is why the advantage is weighted by default. With `scale: none` both are the same.
2. Under `scale: std` alpha cancels in all-wrong groups, and beta in all-right ones: rhat is affine
   in z. They are dials only with `scale: none`, where such a group has about alpha of a mixed
   group's signal.
3. Min-max fills the band, whether the scores differ by 30 or by 0.001. rhat does not change under
   m -> a m + b; only w sees the scale.
4. Every accepted answer is above every rejected one exactly if alpha + beta < 1.
5. After centring, an accepted answer can still have A < 0, and a rejected one A > 0.
6. An answer alone with its verdict has z = 0: the floor of its band.

What we changed or left out, and why:
* The paper does not say how sigma runs: it is a moving average over rollout batches (`momentum`),
  begun with the first batch's mean, used before it is updated, and part of the state. `cumulative`
  is the mean over all batches; `sigma_mean` fixes it.
* A stratum whose scores differ by less than `min_range` running means counts as tied, so that noise
  is not blown up to a whole band. Equal texts get equal scores where scores are made.
* An answer without a score, the verifier's or the model's, is left out of its group and counted;
  `missing_rm: verifier` falls back to the verdicts alone in such a group, with weight 1.

Known failure modes: with `scale: std` all-wrong groups are led by the reward model alone, as loudly
as mixed ones, and a policy learns to game it (watch `rm/auc`, `advantage/share_all_wrong`).
"""

import math
import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.engine.state import Scalar
from rekindle.loops.checks import check_group_settings, check_rows, refuse_no_reward_model
from rekindle.loops.group_step import StepConfig, group_loop
from rekindle.loops.rollouts import known
from rekindle.loops.world import World
from rekindle.ops import groups
from rekindle.ops.groups import Credit, ScoredRows
from rekindle.ops.weights import Reduction

_EPS = 1e-6

# --- the formulas


class Strata(NamedTuple):
    """Eq. 3 on a batch of groups."""

    reward_PG: Float[Tensor, "P G"]  # rhat; nan where an answer is left out
    flat_PG: Bool[Tensor, "P G"]  # its stratum is tied, or it is alone there


def stratified(
    accepted_PG: Float[Tensor, "P G"],
    rm_score_PG: Float[Tensor, "P G"],
    *,
    alpha: float,
    beta: float,
    min_range: float = 0.0,
) -> Strata:
    """Min-max of the scores within each problem and verdict, in the verdict's band (eq. 3).

    Args:
        accepted_PG: 0 or 1; nan leaves an answer out.
        rm_score_PG: any finite numbers; nan leaves an answer out.
        alpha, beta: half widths of the rejected and the accepted band.
        min_range: a stratum whose scores span less counts as tied (z = 0).
    """
    out_PG = torch.full_like(rm_score_PG, math.nan)
    flat_PG = torch.zeros_like(rm_score_PG, dtype=torch.bool)
    for verdict, low, width in ((0.0, -alpha, 2 * alpha), (1.0, 1 - beta, 2 * beta)):
        here_PG = (accepted_PG == verdict) & ~rm_score_PG.isnan()
        lowest_P1 = rm_score_PG.masked_fill(~here_PG, math.inf).amin(dim=1, keepdim=True)
        highest_P1 = rm_score_PG.masked_fill(~here_PG, -math.inf).amax(dim=1, keepdim=True)
        span_P1 = highest_P1 - lowest_P1
        tied_P1 = (span_P1 <= 0) | (span_P1 < min_range)
        z_PG = torch.where(tied_P1, 0.0, (rm_score_PG - lowest_P1) / (span_P1 + _EPS))
        out_PG = torch.where(here_PG, low + width * z_PG, out_PG)
        flat_PG |= here_PG & tied_P1
    return Strata(out_PG, flat_PG)


def spread(rm_score_PG: Float[Tensor, "P G"]) -> Float[Tensor, " P"]:
    """sigma_u: population standard deviation of a problem's scores; nan with fewer than two."""
    count_P = (~rm_score_PG.isnan()).sum(dim=1)
    mean_P1 = rm_score_PG.nanmean(dim=1, keepdim=True)
    sigma_P = (rm_score_PG - mean_P1).square().nanmean(dim=1).sqrt()
    return sigma_P.masked_fill(count_P < 2, math.nan)


def weight(
    sigma_P: Float[Tensor, " P"], sigma_mean: float, *, w_min: float, w_max: float, k: float
) -> Float[Tensor, " P"]:
    """Eq. 4; 1 where a problem has no spread that is known."""
    weight_P = w_min + (w_max - w_min) * torch.sigmoid(k * (sigma_P - sigma_mean))
    return weight_P.nan_to_num(nan=1.0)


def credit(rows: ScoredRows, config: "Config", *, sigma_mean: float | None = None) -> Credit:
    """Rewards and advantages of whole groups, fp64, whatever the order of the rows.

    Args:
        sigma_mean: the running mean; None: the config's, else the mean of these rows.

    Raises:
        DataError: a score outside 0 to 1, or not a single score of a reward model.
    """
    check_rows(rows)
    refuse_no_reward_model(rows)
    grouping = groups.group_rows(rows.group)
    correct_PG, rm_PG = grouping.gather(rows.correct_N), grouping.gather(rows.rm_score_N)
    rm_PG = rm_PG.masked_fill(correct_PG.isnan(), math.nan)
    sigma_P = spread(rm_PG)
    running = next(
        value
        for value in (config.sigma_mean, sigma_mean, float(sigma_P.nanmean()), 0.0)
        if value is not None and not math.isnan(value)
    )
    bands = stratified(
        (correct_PG > 0.5).double().masked_fill(correct_PG.isnan(), math.nan),
        rm_PG,
        alpha=config.alpha,
        beta=config.beta,
        min_range=config.min_range * running,
    )
    weight_P = weight(sigma_P, running, w_min=config.w_min, w_max=config.w_max, k=config.k)
    if config.weight_on == "none":
        weight_P = torch.ones_like(weight_P)
    weight_P1 = weight_P[:, None]
    reward_PG = bands.reward_PG
    if config.missing_rm == "verifier":
        broken_P1 = (rm_PG.isnan() & ~correct_PG.isnan()).any(dim=1, keepdim=True)
        reward_PG = torch.where(broken_P1, correct_PG, reward_PG)
        weight_P1 = torch.where(broken_P1, 1.0, weight_P1)
    if config.weight_on == "reward":
        reward_PG = weight_P1 * reward_PG
    scale = groups.standardise if config.scale == "std" else groups.centre
    advantage_PG = scale(reward_PG)
    if config.weight_on == "advantage":
        advantage_PG = weight_P1 * advantage_PG
    return Credit(
        reward_N=grouping.scatter(reward_PG),
        advantage_N=grouping.scatter(advantage_PG),
        group_class_N=groups.classify_rows(rows.correct_N, grouping, reward_PG),
        columns={
            "weight": grouping.scatter(weight_P1.expand_as(reward_PG)),
            "flat": grouping.scatter(bands.flat_PG.double()),
        },
    )


# --- what can be set


class Config(StepConfig):
    """HERO's settings (appendix A.1), and those of the step."""

    reduction: Reduction = Field(default="token", description="verl's default")
    clip_high: float = Field(default=0.28, ge=0.0, description="table 6")
    kl: float = Field(default=0.0, ge=0.0, description="weight of the KL to the start model")
    alpha: float = Field(default=0.05, ge=0.0, le=1.0, description="half width, rejected answers")
    beta: float = Field(default=0.05, ge=0.0, le=1.0, description="half width, accepted answers")
    w_min: float = Field(default=0.4, ge=0.0, description="section 3.2 has 0.5")
    w_max: float = Field(default=3.0, ge=0.0, description="section 3.2 has 2.0")
    k: float = Field(default=6.0, ge=0.0, description="section 3.2 has 5")
    weight_on: Literal["advantage", "reward", "none"] = Field(
        default="advantage", description="where w goes; eq. 5 says the reward"
    )
    scale: Literal["std", "none"] = Field(default="std", description="GRPO's; eq. 5 is silent")
    sigma_mean: float | None = Field(
        default=None, ge=0.0, description="fixes the running mean of sigma_u"
    )
    running: Literal["average", "cumulative"] = Field(
        default="average", description="moving average over batches, or mean of all"
    )
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="of the moving average")
    min_range: float = Field(
        default=1e-3, ge=0.0, description="in running means: a smaller span counts as tied"
    )
    missing_rm: Literal["leave_out", "verifier"] = Field(
        default="leave_out", description="an answer that the reward model did not score"
    )


PRESETS: dict[str, Config] = {"hero": Config(), "hero_mean": Config(scale="none")}


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """Sample groups, verify and score them, place the scores in the verdicts' bands, step."""
    for step in group_loop(config, world, kl=config.kl):
        used = running_mean(step.scalars)
        advantages = credit(step.rows, config, sigma_mean=used)
        step.scalars.update(advanced(step.scalars, step.rows, config))
        facts = band_facts(step.rows, advantages, w_max=config.w_max)
        facts |= {"sigma/used": known(used), "sigma/running": known(running_mean(step.scalars))}
        step.update(advantages, facts)
    return world.policy


def band_facts(rows: ScoredRows, advantages: Credit, *, w_max: float) -> dict[str, float]:
    """What weights, bands and spreads were like, and how often an advantage contradicts the
    verdict."""
    valid_N = ~advantages.reward_N.isnan()
    right_N, sign_N = rows.correct_N > 0.5, advantages.advantage_N.sign()
    against_N = torch.where(right_N, sign_N < 0, sign_N > 0)[valid_N].double()
    weight_N, flat_N = (advantages.columns[name][valid_N] for name in ("weight", "flat"))
    scores_PG = groups.group_rows(rows.group).gather(rows.rm_score_N)
    spread_P = (scores_PG - scores_PG.nanmean(dim=1, keepdim=True)).square().nanmean(dim=1).sqrt()
    return {
        "sigma/batch": float(spread_P.nanmean()),
        "weight/mean": float(weight_N.mean()),
        "weight/saturated": float((weight_N > 0.99 * w_max).double().mean()),
        "strata/flat": float(flat_N.mean()),
        "advantage/against_verdict": float(against_N.mean()),
    }


def running_mean(scalars: Mapping[str, Scalar]) -> float | None:
    """sigma, as far as it is known."""
    sigma = scalars.get("sigma_mean")
    return None if sigma is None else float(sigma)


def advanced(scalars: Mapping[str, Scalar], rows: ScoredRows, config: Config) -> dict[str, Scalar]:
    """sigma after a rollout batch: a moving average of batch means, or the mean over all problems.

    The rows are those of all processes, so it is the same on each.
    """
    valid_N = rows.rm_score_N.masked_fill(rows.correct_N.isnan(), math.nan)
    sigma_P = spread(groups.group_rows(rows.group).gather(valid_N))
    sigma_P = sigma_P[~sigma_P.isnan()]
    if len(sigma_P) == 0:
        return {}
    mean, before, seen = float(sigma_P.mean()), running_mean(scalars), len(sigma_P)
    if before is not None and config.running == "average":
        mean = config.momentum * before + (1 - config.momentum) * mean
    elif before is not None:
        earlier = int(scalars.get("sigma_count") or 0)
        mean, seen = (before * earlier + mean * seen) / (earlier + seen), earlier + seen
    return {"sigma_mean": mean, "sigma_count": seen}


def check(config: Config, sample: SampleConfig) -> None:
    """Refuse what cannot be meant, and say what has no effect; called before anything is loaded."""
    check_group_settings(config, sample)
    if config.weight_on == "reward" and config.scale == "std":
        warnings.warn(
            "hero.weight_on=reward has no effect with scale=std: the standard deviation that the "
            "advantage is divided by contains the weight (take weight_on=advantage, or scale=none)",
            stacklevel=2,
        )
    if config.alpha + config.beta >= 1:
        warnings.warn(
            f"hero.alpha + beta is {config.alpha + config.beta:g}: from 1 on a rejected answer can "
            "be rewarded above an accepted one",
            stacklevel=2,
        )
