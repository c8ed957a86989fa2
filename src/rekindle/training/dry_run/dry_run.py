"""A dry run: what a recipe needs and costs, and what would need less.

Nothing is written and no weights are needed. Memory is that of one process: with several, data is
divided and the model is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rekindle.engine.device import free_bytes, micro_tokens, pick_device
from rekindle.engine.policy import Policy
from rekindle.methods import dpo, orpo
from rekindle.training.dry_run.architecture import Architecture
from rekindle.training.dry_run.costs import seconds_of, tokens_of
from rekindle.training.dry_run.data import Lengths, measure_lengths
from rekindle.training.dry_run.memory import PARTS, Gauge, Models, Moment
from rekindle.training.dry_run.plans import Draw, Phase, evaluation, phases_of
from rekindle.training.dry_run.rates import (
    Rates,
    assumed_rates,
    has_weights,
    rates_of_model,
    rates_of_product,
)
from rekindle.training.recipe import Recipe, RecipeSource, recipe_of

_WORK = ("update", "score", "sample", "evaluate")


class Change(BaseModel):
    """Something that needs less memory.

    Attributes:
        change: in words.
        set: the overrides that make it.
        peak_bytes, fits: with it.
    """

    model_config = ConfigDict(frozen=True)

    change: str
    set: list[str]
    peak_bytes: int
    fits: bool


class DryRun(BaseModel):
    """What a run needs and costs.

    Attributes:
        method, model, parameters, trained_parameters: what would be trained.
        device: where: cpu or cuda.
        parts: bytes at the peak, by part.
        peak_bytes: all of them.
        at: the moment of the peak.
        memory_bytes: what is free there.
        fits: whether the peak is no more than that.
        tokens: of the whole run: trained, sampled, scored, evaluated.
        seconds: of the whole run.
        seconds_by: update, score, sample, evaluate.
        rates: how fast the device was taken to be.
        instead: what needs less.
        assumed: what is not known and was assumed, a sentence each.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    model: str
    parameters: int
    trained_parameters: int
    device: Literal["cpu", "cuda"]
    parts: dict[str, int]
    peak_bytes: int
    at: str
    memory_bytes: int
    fits: bool
    tokens: dict[str, int]
    seconds: float
    seconds_by: dict[str, float]
    rates: str
    instead: list[Change]
    assumed: list[str]


@dataclass(frozen=True)
class Assumptions:
    """What a caller says of a run that the recipe does not.

    Attributes:
        prompt_tokens: of every prompt; None: as the data has them.
        answer_tokens: of a sampled answer, on average; None: as many as it may have.
        gpu_memory: bytes of a GPU that is not here; None: this machine's device.
        probe: whether the model may be loaded and timed.
    """

    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    gpu_memory: int | None = None
    probe: bool = True


def dry_run(
    recipe: RecipeSource,
    *,
    overrides: Sequence[str] = (),
    assumptions: Assumptions | None = None,
) -> DryRun:
    """What a recipe needs and costs.

    Raises:
        ConfigError, DataError: as `recipe_of`.
        ModelError: a model is not there.
    """
    given = assumptions or Assumptions()
    checked = recipe_of(recipe, overrides)
    this = _Estimate(checked, given)
    peak = this.peak()
    rates = this.rates()
    tokens, spent = Counter[str](), dict.fromkeys(_WORK, 0.0)
    for phase, evaluated in this.phases:
        tokens += tokens_of(phase, evaluated, given.answer_tokens)
        times = seconds_of(this.gauge, phase, evaluated, rates, given.answer_tokens)
        spent = {name: spent[name] + times[name] for name in _WORK}
    memory = this.gauge.memory
    size = this.models.policy.size
    return DryRun(
        method=checked.shared.method,
        model=checked.shared.model.name,
        parameters=size.total,
        trained_parameters=size.trained,
        device=this.device,
        parts={part: peak.parts[part] for part in PARTS},
        peak_bytes=peak.bytes,
        at=peak.name,
        memory_bytes=memory,
        fits=peak.bytes <= memory,
        tokens={name: tokens[name] for name in ("trained", "sampled", "scored", "evaluated")},
        seconds=sum(spent.values()),
        seconds_by=spent,
        rates=rates.source,
        instead=[_change(this, memory, *less) for less in _less(checked, this)],
        assumed=this.lengths.assumed + _said(given, checked),
    )


class _Estimate:
    """The parts of an estimate, in the order in which they need each other."""

    def __init__(self, recipe: Recipe, given: Assumptions, like: _Estimate | None = None) -> None:
        """`like`: of a recipe with the same models and data, held and used in another way."""
        self.recipe, self.given = recipe, given
        shared, method = recipe.shared, recipe.method
        here = pick_device(shared.model.device)
        is_gpu = given.gpu_memory is not None or here.type == "cuda"
        self.device: Literal["cpu", "cuda"] = "cuda" if is_gpu else "cpu"
        if like is None:
            pairs = method.pairs if isinstance(method, dpo.Config | orpo.Config) else None
            policy = Architecture.read(shared.model)
            self.models = Models(policy, _weak(recipe), _reward_bytes(recipe))
            self.lengths: Lengths = measure_lengths(
                recipe, policy, prompt_tokens=given.prompt_tokens, pairs=pairs
            )
        else:
            policy = replace(like.models.policy, settings=shared.model)
            self.models = replace(like.models, policy=policy)
            size = shared.sample.batch_size
            sample = like.lengths.sample.model_copy(update={"batch_size": size})
            self.lengths = replace(like.lengths, sample=sample)
        chosen = shared.optim.micro_tokens or (
            16_384 if given.gpu_memory is not None else micro_tokens(None, here)
        )
        memory = given.gpu_memory or free_bytes(here)
        self.gauge = Gauge(
            self.models, shared.optim, self.lengths.sample, chosen, self.device, memory
        )
        self.phases: list[tuple[Phase, list[Draw]]] = [
            (phase, evaluation(recipe, self.lengths, phase.evaluations))
            for phase in phases_of(recipe, self.lengths)
        ]

    def peak(self) -> Moment:
        """The moment with most in memory."""
        found = [
            moment
            for phase, evaluated in self.phases
            for moment in self.gauge.moments(phase, [*phase.draws, *evaluated])
        ]
        return max(found, key=lambda moment: moment.bytes)

    def rates(self) -> Rates:
        """Timed on the model where its weights are here and fit."""
        if self.given.gpu_memory is not None:
            return assumed_rates()
        config = self.recipe.shared.model
        needed = 3 * self.models.policy.size.total_bytes
        if not (
            self.given.probe
            and has_weights(config.name)
            and needed < free_bytes(pick_device(config.device))
        ):
            return rates_of_product(pick_device(config.device))
        first = next(phase for phase, _ in self.phases if phase.objective is not None)
        cost = self.gauge.cost(first)
        return rates_of_model(
            Policy.load(config),
            flops_a_token=cost.both / cost.tokens,
            threads=self.recipe.shared.device,
        )


def _weak(recipe: Recipe) -> Architecture | None:
    name = dict(recipe.method).get("weak")
    if not isinstance(name, str) or name in ("base", "half"):
        return None
    return Architecture.read(recipe.shared.model.with_name(name))


def _reward_bytes(recipe: Recipe) -> int:
    reward, model = recipe.shared.reward, recipe.shared.model
    if reward.model is None:
        return 0
    held = model.model_copy(update={"revision": reward.revision, "name": reward.model})
    width = 2 if reward.dtype in ("bfloat16", "float16") else 4
    return width * Architecture.read(held).size.total


# --- what needs less


def _less(recipe: Recipe, this: _Estimate) -> list[tuple[str, list[str]]]:
    """Changes in words and as overrides, by how little they change."""
    model, longest = recipe.shared.model, this.lengths
    row = max(longest.prompts) + longest.sample.max_new_tokens
    smaller = max(row, this.gauge.micro_tokens // 4)
    changes: list[tuple[str, list[str]]] = []
    if smaller < this.gauge.micro_tokens:
        changes.append(("smaller micro-batches", [f"optim.micro_tokens={smaller}"]))
    rows = max(
        (this.gauge.rows(d) for phase, ev in this.phases for d in (*phase.draws, *ev)), default=0
    )
    if rows > 8:
        changes.append(("fewer answers at once", [f"sample.batch_size={rows // 4}"]))
    recomputed = ["model.activation_checkpointing=true"]
    if not model.activation_checkpointing:
        changes.append(("activation checkpointing", recomputed))
    if model.lora is None and _has_peft():
        lora = ["model.lora={rank: 16}"]
        changes.append(("a LoRA adapter of rank 16", lora))
        if not model.activation_checkpointing:
            changes.append(("LoRA and activation checkpointing", lora + recomputed))
    return changes


def _has_peft() -> bool:
    return find_spec("peft") is not None


def _change(this: _Estimate, memory: int, change: str, overrides: list[str]) -> Change:
    recipe = recipe_of(this.recipe, overrides)
    peak = _Estimate(recipe, this.given, like=this).peak().bytes
    return Change(change=change, set=overrides, peak_bytes=peak, fits=peak <= memory)


def _said(given: Assumptions, recipe: Recipe) -> list[str]:
    answers = "as long as they may be (--answer-tokens)"
    if given.answer_tokens is not None:
        answers = f"of {given.answer_tokens} tokens on average"
    said = [f"sampled answers are {answers}"]
    if recipe.shared.model.lora is None and not _has_peft():
        said.append("a LoRA adapter was not looked at: pip install 'rekindle[peft]'")
    return said
