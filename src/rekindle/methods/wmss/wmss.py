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
accuracy up, greedy accuracy often down): look at calibration and pass@k, at `wmss_d0`, and at
`sft_extrapolate`, which does the like without training.

Controls: NEFTune, Jain et al. 2023, arXiv 2310.05914; label smoothing, Szegedy et al. 2015, arXiv
1512.00567.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rekindle.engine.adapters.policies import with_adapter
from rekindle.engine.batch import MicroBatch
from rekindle.engine.config import LoraConfig, SampleConfig
from rekindle.engine.contrast import ContrastPolicy
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.engine.update import LossFn, LossTerms
from rekindle.errors import ConfigError
from rekindle.loops.checks import refuse_faults
from rekindle.loops.stages import Stages, epochs, hash_rows
from rekindle.loops.world import World
from rekindle.methods import sft
from rekindle.methods.wmss import weak_model
from rekindle.methods.wmss.curriculum import CurriculumConfig, select
from rekindle.methods.wmss.telemetry import TOKENS, MixSignal
from rekindle.methods.wmss.weak_model import PhaseModels, WeakSide
from rekindle.ops.mixing import mixed_cross_entropy, rows_within
from rekindle.ops.weights import Reduction
from rekindle.records import Problem

_LOOKED_AT = 8 * 2**20  # bytes of logits: some ten copies are held
Partner = Literal["weak", "shuffled", "uniform", "none"]

# --- the formulas


def mixed_objective(
    policy: Policy,
    side: WeakSide,
    *,
    lam: float,
    chunk: int = 256,
    signal: MixSignal | None = None,
) -> LossFn:
    """Cross-entropy on mixed logits, eq. 6; `signal` counts in some tokens of each micro-batch."""

    def loss(micro: MicroBatch) -> LossTerms:
        layout, strong_head, weak_head = micro.layout, policy.head(), side.head()
        strong_ND, weak_NE = policy.hidden(layout), side.hidden(micro)
        target_N = layout.targets_N
        loss_N = mixed_cross_entropy(
            strong_ND,
            strong_head,
            weak_NE,
            weak_head,
            target_N,
            lam=lam,
            chunk=chunk,
            weights_T=micro.weight_BT[micro.mask_BT].to(strong_ND),
        )
        if signal is not None:
            rows = min(TOKENS, rows_within(len(strong_head.weight), _LOOKED_AT))
            few = min(TOKENS, len(target_N))
            for part in (slice(at, min(at + rows, few)) for at in range(0, few, rows)):
                with torch.no_grad():
                    strong_NV = strong_head.logits(strong_ND[part])
                    weak_NV = weak_head.logits(weak_NE[part])
                signal.add(strong_NV, weak_NV, target_N[part])
        return _terms(layout.spread(loss_N))

    return loss


def damped_objective(policy: Policy, *, lam: float) -> LossFn:
    """D0: cross-entropy on lam * z_strong, what a constant weak model amounts to."""

    def loss(micro: MicroBatch) -> LossTerms:
        scores = policy.logprobs(micro.layout, temperature=1 / lam)
        return _terms(-scores.logprobs_BT)

    return loss


def _terms(loss_BT: Tensor) -> LossTerms:
    p_BT = (-loss_BT.detach()).exp()
    return LossTerms(loss_BT, {"mix/above_099": (p_BT > 0.99).float(), "mix/non_target": 1 - p_BT})


# --- what can be set


class Config(CurriculumConfig):
    """WMSS's settings and those of its controls; the curriculum's are in `curriculum.py`."""

    lam: float = Field(default=0.5, ge=0, le=1, description="share of the strong model; B.6")
    select: Literal["entropy", "all"] = Field(default="entropy", description="data of phase 3")
    partner: Partner = Field(default="weak", description="whose logits are mixed in")
    weak: str = Field(
        default="base",
        description="base; half: the strong model half-way through phase 1; or a model's name",
    )
    freeze_weak: bool = Field(default=False, description="variant: only the strong one is trained")
    cache_weak: bool = Field(default=False, description="frozen weak states are kept on disk")
    lora_rank: int | None = Field(default=None, ge=1, description="variant: two LoRA adapters")
    lora_alpha: float | None = Field(default=None, gt=0, description="None: 2 lora_rank")
    iterations: int = Field(default=1, ge=1, description="K of algorithm 1")
    reduction: Reduction = Field(default="token", description="what counts the same")
    chunk: int = Field(default=256, ge=1, description="rows of logits held at a time")
    neftune_noise_alpha: float = Field(default=0.0, ge=0, description="a control, partner none")
    label_smoothing_factor: float = Field(default=0.0, ge=0, lt=1, description="the same")
    extrapolate: float = Field(
        default=0.0, ge=0, description="a control: c of z + c (z - z_weak), in evaluation only"
    )


PRESETS: dict[str, Config] = {
    "wmss": Config(),
    "wmss_code": Config(mode="code"),
    "wmss_frozen": Config(freeze_weak=True),
    "wmss_cached": Config(freeze_weak=True, cache_weak=True),
    "wmss_lora": Config(lora_rank=16),
    "wmss_mixing_only": Config(select="all"),
    "wmss_curriculum_only": Config(partner="none"),
    "wmss_shuffled": Config(select="all", partner="shuffled"),
    "wmss_d0": Config(select="all", partner="uniform"),
    "sft_restart": Config(select="all", partner="none"),
    "sft_neftune": Config(select="all", partner="none", neftune_noise_alpha=5.0),
    "sft_label_smoothing": Config(select="all", partner="none", label_smoothing_factor=0.1),
    "sft_extrapolate": Config(select="all", partner="none", extrapolate=0.25),
}


def check(config: Config, sample: SampleConfig) -> None:
    """Settings that the schema accepts and nobody can mean."""
    mixes = config.partner in ("weak", "shuffled")
    faults: dict[str, object] = {
        "lam is 0 with a uniform partner": config.partner == "uniform" and config.lam == 0,
        "freeze_weak has no use here": config.freeze_weak and (config.lam == 0 or not mixes),
        "cache_weak needs freeze_weak": config.cache_weak and not config.freeze_weak,
        "freeze_weak is not a variant of two adapters": config.freeze_weak and config.lora_rank,
        "two adapters start from the base": config.lora_rank and config.weak != "base",
        "lora_alpha without lora_rank": config.lora_alpha and not config.lora_rank,
        "a control of SFT beside a mix": config.partner != "none"
        and (config.neftune_noise_alpha or config.label_smoothing_factor or config.extrapolate),
    }
    got = ", ".join(f"{k} {v}" for k, v in config.model_dump(exclude_unset=True).items())
    refuse_faults("wmss", faults, got=got, page="has the variants")


# --- the algorithm


def run(config: Config, world: World) -> Policy:
    """SFT, then `iterations` times: score all samples, draw, train on mixed logits."""
    weak_model.note_no_op(config.lam, config.partner)
    stages, parts = Stages(world), config.iterations + 1
    if world.optim.steps < parts:
        raise ConfigError(
            "optim.steps is too small", got=world.optim.steps, wanted=f"{parts}: one a phase"
        )
    optim = world.optim.model_copy(update={"steps": world.optim.steps // parts})
    rest = world.optim.model_copy(update={"steps": optim.steps + world.optim.steps % parts})
    problems = world.task.problems(
        "train", count=config.items, seed=world.seed, levels=world.scope.levels
    )
    base, plain = world.policy, config.model_copy(update={"partner": "none", "extrapolate": 0.0})
    if config.lora_rank is not None:
        lora = LoraConfig(rank=config.lora_rank, alpha=config.lora_alpha)
        base = with_adapter(base, lora, seed=world.seed)
    mixed = config.partner in ("weak", "shuffled") or config.extrapolate > 0
    frozen = config.freeze_weak or config.partner == "none"
    first = weak_model.first_weak(base, config.weak, mixed=mixed, frozen=frozen)
    strong = stages.train(
        "sft",
        base,
        inputs={},
        optim=optim,
        body=partial(_train, plain, problems=problems, models=PhaseModels(base, base)),
    )
    weak = first or weak_model.half_of(strong)
    for k in range(1, parts):
        active, rows = problems, ""
        if config.select == "entropy":
            drawn = select(config, world, stages, problems, weak, strong, k)
            active, rows = [problems[row["row"]] for row in drawn], hash_rows(drawn)
        hashes = {"strong": weights_fingerprint(strong), "weak": weights_fingerprint(weak)}
        models = PhaseModels(strong=strong, weak=weak, base=base)
        trained = stages.train(
            f"mix{k}",
            strong,
            inputs={**hashes, "rows": rows},
            optim=rest if k == config.iterations else optim,
            body=partial(_train, config, problems=active, models=models),
        )
        weak, strong = strong, trained
    return strong


def _train(
    config: Config, world: World, problems: Sequence[Problem], models: PhaseModels
) -> Policy:
    """One phase on a fixed list, in seeded epochs; the strong model is the world's."""
    policy, optim, signal = world.policy, world.optim, MixSignal(config.lam)
    mixes = config.partner in ("weak", "shuffled") and config.lam < 1
    beside: dict[str, nn.Module] = {}
    if config.partner == "none" or config.lam == 1:
        objective = sft.sft_objective(
            policy, smoothing=config.label_smoothing_factor, noise=config.neftune_noise_alpha
        )
    elif config.partner == "uniform":
        objective = damped_objective(policy, lam=config.lam)
    else:
        side = weak_model.weak_side(
            world,
            models,
            problems,
            frozen=config.freeze_weak,
            cached=config.cache_weak,
            shuffled=config.partner == "shuffled",
        )
        beside = side.models()
        objective = mixed_objective(policy, side, lam=config.lam, chunk=config.chunk, signal=signal)
    if config.extrapolate:
        contrast = ContrastPolicy.between(policy, models.weak.frozen_copy(), config.extrapolate)
        world = replace(world, evaluation=replace(world.evaluation, policy=contrast))
    state = world.begin(beside)
    for step in world.steps(state):
        drawn = epochs(problems, step=step, count=optim.problems, seed=world.seed)
        settings = sft.Config(reduction=config.reduction)
        metrics = sft.update_on(settings, world, state, drawn, objective)
        if mixes:
            metrics |= signal.metrics(world.group)
        if models.base is None:
            weak_model.keep_half(config.weak, world, policy, step)
        world.log(step, metrics)
    return policy
