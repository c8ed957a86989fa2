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
base that is named in `models` is made first, by a command of the same kind (`made.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, field_validator

from rekindle.engine.config import Section
from rekindle.engine.yaml_text import read_mapping
from rekindle.errors import ConfigError
from rekindle.evals.crossed import Kind
from rekindle.study.plan.base_models import PREFIX, in_order, made_from
from rekindle.study.plan.checks import check_runs, check_study
from rekindle.study.plan.placeholders import PLACEHOLDER, filled
from rekindle.study.schema import digest
from rekindle.training.recipe import Recipe, checked, make_recipe, with_overrides

OTHER_RUN = re.compile(r"\{run:([^{}]+)\}")
Unit = Literal["updates", "generated", "trained"]


def _as_name(value: Any) -> Any:
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


class Ends(Section):
    """The arms between which the performance gap lies; every other arm gets a PGR."""

    weak: str = Field(description="the arm at 0")
    ceiling: str = Field(description="the arm at 1")


class Built(Section):
    """A base model that the study makes."""

    run: tuple[str, ...] = Field(description="rekindle's arguments; {dir}, {model:OTHER}")
    model: str = Field(description="the model that it leaves, e.g. {dir}/final")


class Study(Section):
    """A checked study file."""

    study: str = Field(description="its name")
    claim: str = Field(default="", description="what is asked, in words")
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
    pgr: Ends | None = Field(
        default=None, description="give the performance gap recovered, in the same metrics"
    )
    prepare: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="see above")
    models: dict[str, Built] = Field(
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

    def declaration(self) -> dict[str, Any]:
        """Everything in the file, as plain data."""
        tree = self.model_dump(mode="json")
        if self.interval == "crossed":  # younger than the first studies: their hashes stay true
            del tree["interval"]
        return tree

    def declared(self) -> str:
        """Hash of everything in the file: a claim that is changed later is another claim."""
        return digest(self.declaration())


@dataclass(frozen=True)
class Planned:
    """One run of a study.

    Attributes:
        arm, base, seed: which; `base` as in the file.
        out: its run directory.
        recipe: its checked recipe.
        needs: preparations (by directory) and runs (by run directory) that must be finished first.
    """

    arm: str
    base: str
    seed: int
    out: Path
    recipe: Recipe
    needs: tuple[Path, ...]


@dataclass(frozen=True)
class Preparation:
    """A command that runs once for a base, after what it `needs`."""

    name: str
    base: str
    out: Path
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read, override and check a study file; every arm's recipe is checked too.

    Raises:
        ConfigError: not YAML, a key twice, unknown keys, an arm or baseline that is not there, or
            names, comparisons and settings that cannot be meant.
        DataError: the file does not exist.
    """
    tree = read_mapping(Path(path), kind="study", see="see studies/")
    study = checked(Study, with_overrides(tree, overrides), "")
    check_study(study)
    return study


def plan(study: Study, out: Path) -> list[Planned]:
    """Every run, those of one base and seed together, so that early ones compare in pairs.

    Raises:
        ConfigError: a recipe cannot be meant, two bases would have one directory, arms wait for
            each other or would be evaluated in different ways, or what is compared would not be
            measured.
    """
    _refuse_one_place(study)
    runs = [
        _planned(study, out, arm, base, seed)
        for seed in study.seeds
        for base in study.bases
        for arm in study.arms
    ]
    check_runs(study, runs)
    return runs


def preparations(study: Study, out: Path) -> list[Preparation]:
    """What runs before the arms: models that are made, then what each base needs."""
    found: list[Preparation] = []
    commands = {name: built.run for name, built in study.models.items()}
    for base in study.bases:
        known_places = {item.out for item in found}
        for name in in_order(commands, base):
            if _built(out, name) not in known_places:
                found.append(_making(study, out, name))
        for name, words in study.prepare.items():
            place = _prepared(study, out, name, base)
            model = model_of(study, out, base)
            known = {"model": model, "base": short(study, base), "dir": str(place)}
            command = tuple(filled(word, known, f"prepare.{name}") for word in words)
            needs = (_built(out, base),) if base in study.models else ()
            found.append(Preparation(name, base, place, command, needs))
    return found


def _making(study: Study, out: Path, name: str) -> Preparation:
    place, words = _built(out, name), study.models[name].run
    others = made_from(words)
    known = {PREFIX + other: model_of(study, out, other) for other in others}
    command = tuple(filled(w, {"dir": str(place), **known}, f"models.{name}") for w in words)
    return Preparation("models", name, place, command, tuple(_built(out, o) for o in others))


def model_of(study: Study, out: Path, base: str) -> str:
    """What a base is loaded by."""
    if base not in study.models:
        return base
    return filled(study.models[base].model, {"dir": str(_built(out, base))}, f"models.{base}")


def short(study: Study, base: str) -> str:
    """The last parts of a base's name that tell it from the others, fit for a directory."""
    return short_names(study.bases)[base]


def short_names(bases: Sequence[str]) -> dict[str, str]:
    """Base -> its name in directories; see `short`."""
    split = {base: base.rstrip("/").split("/") for base in bases}
    for parts in range(1, max(map(len, split.values())) + 1):
        names = {base: "-".join(words[-parts:]) for base, words in split.items()}
        if len(set(names.values())) == len(names):
            break
    return {base: re.sub(r"[^A-Za-z0-9._+-]", "-", name) for base, name in names.items()}


def run_directory(study: Study, out: Path, arm: str, base: str, seed: int) -> Path:
    """Where a run is."""
    return out / "runs" / arm / short(study, base) / f"seed-{seed}"


def _refuse_one_place(study: Study) -> None:
    owners: dict[str, str] = {}
    for base, name in short_names(study.bases).items():
        if not name.strip("."):
            raise ConfigError(
                f"base model '{base}' has no name for its directory",
                fix="give it by a path that ends in a name",
            )
        if name in owners:
            raise ConfigError(
                "two base models would have one directory",
                got=f"'{owners[name]}' and '{base}': both {name}",
                why="the runs of one would be taken for the other's",
                fix="give one of them by a path that ends otherwise, e.g. a link",
            )
        owners[name] = base


def _built(out: Path, base: str) -> Path:
    return out / "models" / base


def _prepared(study: Study, out: Path, name: str, base: str) -> Path:
    return out / "prepared" / name / short(study, base)


def _planned(study: Study, out: Path, arm: str, base: str, seed: int) -> Planned:
    needs: list[Path] = [_built(out, base)] if base in study.models else []
    own = {"base": short(study, base), "model": model_of(study, out, base)}
    others = {
        f"run:{other}": run_directory(study, out, other, base, seed)
        for other in study.arms
        if other != arm
    }
    places = {name: _prepared(study, out, name, base) for name in study.prepare} | others
    known = own | {name: str(place) for name, place in places.items()}

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [fill(item) for item in value]
        if not isinstance(value, str):
            return value
        needs.extend(places[name] for name in PLACEHOLDER.findall(value) if name in places)
        return filled(value, known, f"arms.{arm}")

    tree = fill(_laid_over(study.recipe, study.arms[arm]))
    tree["model"] = {**_section(tree, "model", arm), "name": own["model"]}
    tree["seed"] = seed
    if study.budget.at_most is not None and study.budget.unit != "updates":
        limit = {f"max_{study.budget.unit}": study.budget.at_most}
        tree["optim"] = {**_section(tree, "optim", arm), **limit}
    try:
        recipe = make_recipe(tree)
    except ConfigError as error:
        raise ConfigError(f"arm '{arm}': {error}") from error
    place = run_directory(study, out, arm, base, seed)
    return Planned(arm, base, seed, place, recipe, tuple(dict.fromkeys(needs)))


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        under = out.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        out[key] = _laid_over(dict(under or {}), value) if both else value
    return out


def _section(tree: Mapping[str, Any], name: str, arm: str) -> Mapping[str, Any]:
    section = tree.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(
            f"arm '{arm}': section '{name}' is not a mapping",
            got=section,
            wanted="keys and values",
            fix=f"write its settings below '{name}:'",
        )
    return section
