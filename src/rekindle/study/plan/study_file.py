"""A study file: what is compared with what, on what, and what decides; read before anything runs.

    study: lens
    bases: [testbed/countdown-s0, testbed/countdown-s1]
    seeds: [0, 1]
    recipe: {task: {name: countdown, levels: ["5"]}, optim: {steps: 100}, ...}
    arms:
      grpo: {method: grpo}
      lens: {method: lens, lens: {neg_scale: unit}}
    baseline: grpo
    primary: {arm: lens, metric: pass@16, level: "5"}
    budget: {unit: generated, at_most: 400000}

An arm is a recipe tree laid over `recipe`; `model.name` comes from `bases`, `seed` from `seeds`. In
its strings `{base}` is the base's short name, `{model}` what it is loaded by, `{run:ARM}` the run
directory of another arm with the same base and seed (which then runs first), and `{NAME}` the
directory of a preparation.

A preparation is a `rekindle` command that runs once for each base before the arms: a reward model,
a weaker checkpoint. In it `{model}` is the base's model and `{dir}` where its result belongs. A
base that is named in `models` is made first, by a command of the same kind (`base_models.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue, StrictInt, field_validator

from rekindle.engine.config import Section
from rekindle.errors import ConfigError, did_you_mean
from rekindle.evals.crossed import Kind
from rekindle.study.plan.base_models import canonical_name, check_sources
from rekindle.study.plan.placeholders import NAME, RESERVED
from rekindle.study.schema import DeclaredComparison, Rule, RuleBudget, Unit, digest
from rekindle.training.recipe import Recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def _as_name(value: object) -> object:
    # `level: 5` means what it looks like, as in a recipe's task.levels.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Level = Annotated[str | None, BeforeValidator(_as_name)]


class Primary(Section):
    """The one comparison and metric that decide; declared before the run."""

    arm: str = Field(description="whose claim it is")
    baseline: str | None = Field(default=None, description="None: the study's")
    metric: str = Field(default="pass@1", description="a metric of the evaluation")
    level: Level = Field(default=None, description="None: all levels together")


class Comparison(Section):
    """One arm against another."""

    arm: str = Field(description="what is compared")
    baseline: str = Field(description="what it is compared with")


class Budget(Section):
    """What every arm may spend; the other two are counted and shown."""

    unit: Unit = Field(default="updates", description="what is made equal")
    at_most: int | None = Field(
        default=None,
        ge=1,
        description="per run; needed for tokens; None: the arms agree in updates",
    )
    tolerance: float = Field(
        default=0.05, ge=0.0, description="share by which an arm may differ and count as equal"
    )


class GapArms(Section):
    """The arms between which the performance gap lies; every other arm gets a PGR."""

    weak: str = Field(description="the arm at 0")
    ceiling: str = Field(description="the arm at 1")


class BuiltModel(Section):
    """A base model that the study makes."""

    run: tuple[str, ...] = Field(description="rekindle's arguments; {dir}, {model:OTHER}")
    model: str = Field(description="the model that it leaves, e.g. {dir}/final")


class Study(Section):
    """A checked study file."""

    study: str = Field(description="its name")
    claim: str = Field(default="", description="the question, in words")
    bases: tuple[str, ...] = Field(min_length=1, description="models to start from")
    seeds: tuple[StrictInt, ...] = Field(min_length=1, description="of each arm, on each base")
    recipe: dict[str, Any] = Field(default_factory=dict, description="what all arms share")
    arms: dict[str, dict[str, Any]] = Field(min_length=1, description="name: a recipe's keys")
    baseline: str = Field(description="the arm that others are compared with")
    comparisons: tuple[Comparison, ...] = Field(
        default=(), description="empty: every other arm against the baseline"
    )
    primary: Primary
    secondary: tuple[str, ...] = Field(default=(), description="further metrics")
    levels: tuple[Level, ...] = Field(
        default=(None,), description="levels that secondary metrics are compared on; None: all"
    )
    meaningful: float = Field(
        default=0.01, ge=0.0, description="smallest difference that would matter to you"
    )
    interval: Kind = Field(
        default="crossed",
        description="what verdicts rest on; bootstrap: over bases, seeds and problems, both shown",
    )
    budget: Budget = Budget()
    pgr: GapArms | None = Field(
        default=None, description="give the performance gap recovered, in the same metrics"
    )
    prepare: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="see above")
    models: dict[str, BuiltModel] = Field(
        default_factory=dict, description="bases that are made before anything else"
    )

    @field_validator("bases")
    @classmethod
    def _without_last_slash(cls, bases: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(base.rstrip("/") or base for base in bases)

    def pairs(self) -> list[Comparison]:
        """What is compared, the primary comparison first."""
        first = Comparison(arm=self.primary.arm, baseline=self.primary.baseline or self.baseline)
        named = self.comparisons or tuple(
            Comparison(arm=arm, baseline=self.baseline) for arm in self.arms if arm != self.baseline
        )
        return [first, *(pair for pair in named if pair != first)]

    def declaration(self) -> dict[str, JsonValue]:
        """Everything in the file, as plain data."""
        tree = self.model_dump(mode="json")
        if self.interval == "crossed":  # younger than the first studies: their hashes stay true
            del tree["interval"]
        return tree

    def declared_hash(self) -> str:
        """Hash of everything in the file: a claim that is changed later is another claim."""
        return digest(self.declaration())

    def declared_comparison(self) -> DeclaredComparison:
        """What decides, with the study's baseline where the comparison names none."""
        baseline = self.primary.baseline or self.baseline
        return DeclaredComparison(**{**self.primary.model_dump(), "baseline": baseline})

    def rule(self) -> Rule:
        """What a verdict rests on beside its comparison."""
        budget = RuleBudget(**self.budget.model_dump())
        return Rule(meaningful=self.meaningful, interval=self.interval, budget=budget)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    arm: str
    base: str  # as in the file
    seed: int
    out: Path
    recipe: Recipe  # checked
    needs: tuple[Path, ...]  # directories of preparations and runs that must be finished first


@dataclass(frozen=True)
class Preparation:
    """A command that runs once for a base, after what it `needs`."""

    name: str
    base: str
    out: Path
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()


def check_study(study: Study) -> None:
    """ConfigError where names, comparisons, seeds, bases or settings make no sense."""
    _check_names(study)
    _check_comparisons(study)
    models = [base if base in study.models else canonical_name(base) for base in study.bases]
    for what, values, given in (
        ("seeds", study.seeds, study.seeds),
        ("bases", models, study.bases),
    ):
        if len(set(values)) < len(values):
            raise ConfigError(
                f"{what} lists one twice",
                got=list(given),
                why="the same run counted twice would make the interval too narrow",
                fix="leave one of them out",
            )
    check_sources({name: built.run for name, built in study.models.items()}, study.bases)
    _check_not_set(study)


def _check_names(study: Study) -> None:
    for name in [*study.arms, *study.prepare, *study.models]:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot name an arm, preparation or model",
                wanted="letters, digits, . _ + -",
                why="it becomes a directory",
            )
    for name in study.prepare:
        if name in RESERVED or not NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot name a preparation",
                wanted="letters, digits and _, none of " + ", ".join(RESERVED),
                why=f"an arm takes its result as {{{name}}}"
                + (", which stands for something else" if name in RESERVED else ""),
                fix="give it another name",
            )


def _check_comparisons(study: Study) -> None:
    """Every comparison is of two arms of the study, and is made once."""
    named = {"baseline": study.baseline, "primary.arm": study.primary.arm}
    if study.primary.baseline is not None:
        named["primary.baseline"] = study.primary.baseline
    if study.pgr is not None:
        named |= {"pgr.weak": study.pgr.weak, "pgr.ceiling": study.pgr.ceiling}
    for i, pair in enumerate(study.comparisons):
        named[f"comparisons.{i}.arm"] = pair.arm
        named[f"comparisons.{i}.baseline"] = pair.baseline
    for where, arm in named.items():
        if arm not in study.arms:
            raise ConfigError(f"{where} is not an arm", got=arm, fix=did_you_mean(arm, study.arms))
    if study.pgr is not None and study.pgr.weak == study.pgr.ceiling:
        raise ConfigError(
            "pgr.weak and pgr.ceiling are the same arm",
            got=study.pgr.weak,
            why="there would be no gap between them",
            fix="name another arm",
        )
    for pair in [*study.comparisons, *study.pairs()]:
        if pair.arm == pair.baseline:
            raise ConfigError(
                f"'{pair.arm}' is compared with itself",
                why="the difference would be 0 by construction",
                fix="name another arm or baseline",
            )
    # `pairs` leaves out the primary one where `comparisons` names it too, which is fine once.
    for pairs in (study.comparisons, study.pairs()):
        seen = set[frozenset[str]]()
        for pair in pairs:
            arms = frozenset((pair.arm, pair.baseline))
            if arms in seen:
                raise ConfigError(
                    f"'{pair.arm}' and '{pair.baseline}' are compared twice",
                    why="p-values are adjusted for the number of comparisons, and the other way "
                    "round is the same one",
                    fix="leave one of them out of 'comparisons'",
                )
            seen.add(arms)


def _check_not_set(study: Study) -> None:
    """What the study gives each run is set by none of its recipes."""
    trees = {"recipe": study.recipe} | {f"arms.{arm}": tree for arm, tree in study.arms.items()}
    for where, tree in trees.items():
        if "seed" in tree:
            raise ConfigError(
                f"{where}.seed is set", why="a study takes its seeds from 'seeds'", fix="remove it"
            )
        model = tree.get("model")
        if isinstance(model, Mapping) and "name" in model:
            raise ConfigError(
                f"{where}.model.name is set",
                got=model["name"],
                why="a study takes its models from 'bases', and every arm begins with each of them",
                fix="remove it; a model that is to be another one is a base",
            )
