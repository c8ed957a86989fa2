"""WMSS, Weak-Driven Learning: a weak checkpoint brings gradient back to a saturated model.

Chen et al. 2026, arXiv 2602.08222 (v2).

    1  strong <- SFT(base), weak <- base
    2  dH_i = H(strong; x_i) - H(weak; x_i)                                  eq. 8
       p_i ~ alpha [-dH_i]_+ + beta H(strong; x_i) + gamma [dH_i]_+          eq. 9, mode "paper"
       p_i ~ alpha H_i/sum H + beta [-dH_i]_+/sum + gamma [dH_i]_+/sum       mode "code", H of weak
       active <- distinct items of N draws with replacement
    3  loss_t = -log softmax(lam z_strong + (1 - lam) z_weak)[y_t]           eq. 5-6, both trained
    repeat 2-3 with (weak, strong) <- (strong before, strong after); the strong branch is kept

Axes: N samples, B sequences, T completion tokens, D width.

What we changed or left out, and why:
* The modes give alpha and beta different meanings with the same values: never carry them over.
* Both models are trained by default, as in the paper's algorithm 1; other places of it say frozen.
* The entropies use the loss's shift, mask and template; the released code's are off by one.
* `optim.steps` is the whole budget, divided evenly over SFT and the iterations; each part begins
  with a new optimizer and schedule, also in the controls.
* Every process scores all samples in phase 2: simple, and the same everywhere.

Known failure modes: the kept model is pushed away from the weak one in logit space (sampled
accuracy up, greedy accuracy often down): look at calibration and pass@k, and at `wmss_d0`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rekindle.engine.batch import MicroBatch
from rekindle.engine.config import SampleConfig
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.engine.update import LossFn, LossTerms, fresh_state, update
from rekindle.errors import ConfigError
from rekindle.methods import sft
from rekindle.methods.curriculum import Knobs, epochs, select
from rekindle.methods.stages import Stages, hash_rows
from rekindle.methods.world import World
from rekindle.ops.mixing import mixed_cross_entropy
from rekindle.ops.weights import Reduction
from rekindle.records import Problem

Partner = Literal["weak", "shuffled", "uniform", "none"]

# --- the formulas


def mixed_objective(
    policy: Policy, weak: Policy, *, lam: float, frozen: bool, shuffled: bool, chunk: int
) -> LossFn:
    """Cross-entropy on mixed logits, eq. 6; the weak side keeps no graph when frozen."""

    def loss(micro: MicroBatch) -> LossTerms:
        strong_BTD = policy.hidden(micro.tokens_BS, micro.attend_BS, start=micro.start)
        with torch.set_grad_enabled(not frozen):
            weak_BTE = weak.hidden(micro.tokens_BS, micro.attend_BS, start=micro.start)
        if shuffled:
            weak_BTE = _other_places(weak_BTE, micro)
        mask_BT = micro.mask_BT
        targets_BT = micro.tokens_BS[:, micro.start :].masked_fill(~mask_BT, -100)
        loss_BT = mixed_cross_entropy(
            strong_BTD.flatten(0, 1),
            policy.head(),
            weak_BTE.flatten(0, 1),
            weak.head().detach() if frozen else weak.head(),
            targets_BT.flatten(),
            lam=lam,
            chunk=chunk,
            weights_T=micro.weight_BT.to(strong_BTD).flatten(),
        ).view(mask_BT.shape)
        p_BT = (-loss_BT.detach()).exp()
        return LossTerms(
            loss_BT, {"mix/above_099": (p_BT > 0.99).float(), "mix/non_target": 1 - p_BT}
        )

    return loss


def damped_objective(policy: Policy, *, lam: float) -> LossFn:
    """D0: cross-entropy on lam * z_strong, what a constant weak model amounts to."""

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(
            micro.tokens_BS, micro.attend_BS, start=micro.start, temperature=1 / lam
        )
        p_BT = scores.logprobs_BT.detach().exp()
        return LossTerms(
            -scores.logprobs_BT,
            {"mix/above_099": (p_BT > 0.99).float(), "mix/non_target": 1 - p_BT},
        )

    return loss


def _other_places(hidden_BTD: Tensor, micro: MicroBatch) -> Tensor:
    # Half an answer's length away: right statistics, wrong place, however the step is split.
    out_BTD = hidden_BTD.clone()
    for b, length in enumerate(micro.mask_BT.sum(dim=1).tolist()):
        out_BTD[b, :length] = hidden_BTD[b, :length].roll(length // 2, dims=0)
    return out_BTD


# --- what can be set


class Config(Knobs):
    """WMSS's knobs and those of its controls; the curriculum's are in `methods/curriculum.py`."""

    lam: float = Field(default=0.5, ge=0, le=1, description="share of the strong model; B.6")
    select: Literal["entropy", "all"] = Field(default="entropy", description="data of phase 3")
    partner: Partner = Field(default="weak", description="whose logits are mixed in")
    freeze_weak: bool = Field(default=False, description="variant: only the strong one is trained")
    iterations: int = Field(default=1, ge=1, description="K of algorithm 1")
    reduction: Reduction = Field(default="token", description="what counts the same")
    chunk: int = Field(default=1024, ge=1, description="rows of logits held at a time")


PRESETS: dict[str, Config] = {
    "wmss": Config(),
    "wmss_code": Config(mode="code"),
    "wmss_frozen": Config(freeze_weak=True),
    "wmss_mixing_only": Config(select="all"),
    "wmss_curriculum_only": Config(partner="none"),
    "wmss_shuffled": Config(select="all", partner="shuffled"),
    "wmss_d0": Config(select="all", partner="uniform"),
    "sft_restart": Config(select="all", partner="none"),
}


def check(config: Config, sample: SampleConfig) -> None:
    """Settings that the schema accepts and nobody can mean."""
    if config.partner == "uniform" and config.lam == 0:
        raise ConfigError("lam is 0 with a uniform partner", why="nothing would be trained")
    if config.freeze_weak and (config.lam == 0 or config.partner in ("uniform", "none")):
        raise ConfigError(
            "freeze_weak has no use here",
            got=f"lam {config.lam}, partner {config.partner}",
            why="no weak model is trained, or (lam 0) nothing else would be",
            fix="leave it out",
        )


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """SFT, then `iterations` times: score all samples, draw, train on mixed logits."""
    stages, parts = Stages(world), config.iterations + 1
    if world.optim.steps < parts:
        raise ConfigError(
            "optim.steps is too small", got=world.optim.steps, wanted=f"{parts}: one a phase"
        )
    optim = world.optim.model_copy(update={"steps": world.optim.steps // parts})
    rest = world.optim.model_copy(update={"steps": optim.steps + world.optim.steps % parts})
    problems = world.task.problems(
        "train", count=config.items, seed=world.seed, levels=world.levels
    )
    plain = config.model_copy(update={"partner": "none"})
    weak, strong = world.policy, world.policy
    strong = stages.train(
        "sft", strong, inputs={}, optim=optim, body=lambda w: _train(plain, w, problems, None)
    )
    for k in range(1, parts):
        active, made = problems, ""
        if config.select == "entropy":
            rows = select(config, world, stages, problems, weak, strong, k)
            active, made = [problems[row["row"]] for row in rows], hash_rows(rows)
        other, data = weak, active
        before, strong = (
            strong,
            stages.train(
                f"mix{k}",
                strong,
                inputs={"weak": weights_fingerprint(weak), "rows": made},
                optim=rest if k == config.iterations else optim,
                body=lambda w, o=other, d=data: _train(config, w, d, o),  # type: ignore[misc]
            ),
        )
        weak = before
    return strong


def _train(
    config: Config, world: World, problems: Sequence[Problem], weak: Policy | None
) -> Policy:
    """One phase on a fixed list, in seeded epochs; the strong model is the world's."""
    policy, optim, models = world.policy, world.optim, {"policy": world.policy.model}
    if weak is None or config.partner == "none":
        objective = sft.sft_objective(policy)
    elif config.partner == "uniform":
        objective = damped_objective(policy, lam=config.lam)
    else:
        side = weak.frozen_copy() if config.freeze_weak else weak.trainable_copy()
        if not config.freeze_weak:
            models["weak"] = side.model
        objective = mixed_objective(
            policy,
            side,
            lam=config.lam,
            frozen=config.freeze_weak,
            shuffled=config.partner == "shuffled",
            chunk=config.chunk,
        )
    state = world.restore(fresh_state(models, optim))
    for step in world.steps(state):
        drawn = epochs(problems, step=step, count=optim.problems, seed=world.seed)
        mine = drawn[world.group.rank :: world.group.size]
        batch = sft.weigh(sft.Config(reduction=config.reduction), world, mine)
        with world.clock("update"):
            metrics = update(
                state,
                batch.split(world.micro_tokens),
                objective,
                clip=optim.clip,
                group=world.group,
                device=policy.device,
            )
        trained = world.group.sum({"tokens": float(batch.tokens)})["tokens"]
        world.log(step, {**metrics, "tokens/trained": trained})
    return policy
