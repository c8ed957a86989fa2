"""WMSS's phase 2: per-sample entropies of two models, sampling weights, one draw (eq. 7-9).

Axes: N samples, K supervised tokens of all samples.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rekindle.engine.config import Section
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.errors import DataError
from rekindle.loops.stage_files import Fact
from rekindle.loops.stages import StageRows, Stages
from rekindle.loops.world import World
from rekindle.methods import sft
from rekindle.records import Problem


class CurriculumConfig(Section):
    """What weighs and draws the samples."""

    mode: Literal["paper", "code"] = Field(
        default="paper", description="eq. 9 of v2, or the released code's weights"
    )
    alpha: float = Field(default=0.1, ge=0, description="paper: consolidation; code: difficulty")
    beta: float = Field(default=0.8, ge=0, description="paper: difficulty; code: consolidation")
    gamma: float = Field(default=0.1, ge=0, description="regression repair")
    dedup: bool = Field(default=True, description="each drawn sample once, as in v2")
    items: int = Field(default=2048, ge=1, description="training samples of each level")


class Curriculum(NamedTuple):
    """How likely each sample is to be drawn, and why."""

    weight_N: Float[Tensor, " N"]  # sums to 1
    class_N: list[str]  # consolidation: dH < 0; repair: dH > 0; stable: dH = 0


# A sample that was drawn: its place among the problems, and why.
DrawnRow = TypedDict(
    "DrawnRow",
    {
        "row": int,
        "id": str,
        "entropy_weak": float,
        "entropy_strong": float,
        "weight": float,
        "class": str,
    },
)


def curriculum(
    weak_N: Float[Tensor, " N"], strong_N: Float[Tensor, " N"], config: CurriculumConfig
) -> Curriculum:
    """Sampling weights from mean entropies of each sample, in nats: eq. 8-9, fp64.

    Raises:
        DataError: an entropy is negative or not finite, or every weight is 0.
    """
    for name, values_N in (("entropy_weak", weak_N), ("entropy_strong", strong_N)):
        unusable_N = ~(values_N.isfinite() & (values_N >= 0))
        if bool(unusable_N.any()):
            row = int(unusable_N.nonzero()[0])
            raise DataError(
                f"sample {row + 1} has no usable {name}",
                got=float(values_N[row]),
                wanted="a finite number of nats, 0 or more",
                why="non-finite logits, or a sample without supervised tokens",
            )
    alpha, beta, gamma = config.alpha, config.beta, config.gamma
    change_N = strong_N.double() - weak_N.double()
    fell_N, rose_N = (-change_N).clamp(min=0), change_N.clamp(min=0)
    if config.mode == "paper":
        raw_N = alpha * fell_N + beta * strong_N.double() + gamma * rose_N
    else:
        terms = ((alpha, weak_N.double()), (beta, fell_N), (gamma, rose_N))
        raw_N = sum((c * t / t.sum() for c, t in terms if t.sum() > 0), torch.zeros_like(change_N))
    if not float(raw_N.sum()) > 0:
        raise DataError(
            "every sample has curriculum weight 0",
            got=f"mode {config.mode}, alpha {alpha}, beta {beta}, gamma {gamma}",
            wanted="one sample at least with a term above 0",
            fix="raise a coefficient whose term is not 0 on this data",
        )
    names = ["consolidation" if d < 0 else "repair" if d > 0 else "stable" for d in change_N]
    return Curriculum(raw_N / raw_N.sum(), names)


def draw_active(weight_N: Float[Tensor, " N"], *, seed: int, dedup: bool) -> list[int]:
    """N draws with replacement; sorted, each index once where `dedup`."""
    gen = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(weight_N, len(weight_N), replacement=True, generator=gen).tolist()
    return sorted(set(drawn)) if dedup else sorted(drawn)


def select(
    config: CurriculumConfig,
    world: World,
    stages: Stages,
    problems: Sequence[Problem],
    weak: Policy,
    strong: Policy,
    k: int,
) -> list[DrawnRow]:
    """Phase 2 as a stage of rows, with what it says about saturation beside them."""

    def make() -> StageRows[DrawnRow]:
        batch = sft.weigh(sft.Config(), world, list(problems))
        weak_scores, strong_scores = (
            world.measure(policy, batch, temperature=1.0) for policy in (weak, strong)
        )
        weak_N = weak_scores.entropy_BT.nanmean(dim=1)
        strong_N = strong_scores.entropy_BT.nanmean(dim=1)
        weights = curriculum(weak_N, strong_N, config)
        kept = draw_active(weights.weight_N, seed=world.seed + k, dedup=config.dedup)
        rows: list[DrawnRow] = [
            {
                "row": i,
                "id": problems[i].id,
                "entropy_weak": float(weak_N[i]),
                "entropy_strong": float(strong_N[i]),
                "weight": float(weights.weight_N[i]),
                "class": weights.class_N[i],
            }
            for i in kept
        ]
        logprobs_BT = strong_scores.logprobs_BT
        p_K = logprobs_BT[~logprobs_BT.isnan()].exp()
        facts: dict[str, Fact] = {
            "unique_share": len(set(kept)) / len(problems),
            "entropy_change": float((strong_N - weak_N).mean()),
            **{
                f"{name}_share": weights.class_N.count(name) / len(problems)
                for name in ("consolidation", "repair", "stable")
            },
            "strong_above_099": float((p_K > 0.99).double().mean()),
            "strong_non_target": float((1 - p_K).mean()),
        }
        return StageRows(rows, dropped={"not drawn": len(problems) - len(set(kept))}, facts=facts)

    inputs = {
        "weak": weights_fingerprint(weak),
        "strong": weights_fingerprint(strong),
        "seed": world.seed + k,
        **config.model_dump(include=set(CurriculumConfig.model_fields)),
    }
    return stages.rows(f"curriculum{k}", inputs=inputs, make=make)
