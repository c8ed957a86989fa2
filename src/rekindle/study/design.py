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
base that is named in `models` is made first, by a command of the same kind.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from rekindle.engine.config import Section
from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.evals.crossed import Kind
from rekindle.methods.recipe import Recipe, checked, make_recipe, with_overrides
from rekindle.study.checks import check_runs, check_study

OTHER_RUN = re.compile(r"\{run:([^{}]+)\}")
Unit = Literal["updates", "generated", "trained"]


class Primary(Section):
    """The one comparison and metric that decide; declared before the run."""

    arm: str = Field(description="whose claim it is")
    baseline: str | None = Field(default=None, description="None: the study's")
    metric: str = Field(default="pass@1", description="a metric of the evaluation")
    level: str | None = Field(default=None, description="None: all levels together")


class Comparison(Section):
    """One arm against another."""

    arm: str = Field(description="what is compared")
    baseline: str = Field(description="what it is compared with")


class Budget(Section):
    """What every arm may spend; the other two are counted and shown."""

    unit: Unit = Field(default="updates", description="what is made equal")
    at_most: int | None = Field(
        default=None, ge=1, description="per run; None: the arms must agree among themselves"
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

    run: tuple[str, ...] = Field(description="arguments of rekindle; {dir}: where it belongs")
    model: str = Field(description="the model that it leaves, e.g. {dir}/final")


class Study(Section):
    """A checked study file."""

    study: str = Field(description="its name")
    claim: str = Field(default="", description="what is asked, in words")
    bases: tuple[str, ...] = Field(min_length=1, description="models to start from")
    seeds: tuple[int, ...] = Field(min_length=1, description="of each arm, on each base")
    recipe: dict[str, Any] = Field(default_factory=dict, description="what all arms share")
    arms: dict[str, dict[str, Any]] = Field(min_length=1, description="name: a recipe's keys")
    baseline: str = Field(description="the arm that others are compared with")
    comparisons: tuple[Comparison, ...] = Field(
        default=(), description="empty: every other arm against the baseline"
    )
    primary: Primary
    secondary: tuple[str, ...] = Field(default=(), description="further metrics")
    levels: tuple[str | None, ...] = Field(
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
        text = json.dumps(self.declaration(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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
        ConfigError: not YAML, unknown keys, an arm or baseline that is not there, unequal updates,
            or a recipe that cannot be meant (the arm is named).
        DataError: the file does not exist.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"study {path} does not exist", fix="see studies/") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"study {path} is not valid YAML", got=str(error)) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"study {path} is not a mapping", got=tree, wanted="sections, e.g. 'study: lens'"
        )
    study = checked(Study, with_overrides(tree, overrides), "")
    check_study(study)
    return study


def plan(study: Study, out: Path) -> list[Planned]:
    """Every run, those of one base and seed together, so that early ones compare in pairs.

    Raises:
        ConfigError: a recipe cannot be meant, arms would be evaluated in different ways, or what
            is compared would not be measured.
    """
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
    found = []
    for base in study.bases:
        if base in study.models:
            place = _built(out, base)
            words = study.models[base].run
            command = tuple(_filled(w, {"dir": str(place)}, f"models.{base}") for w in words)
            found.append(Preparation("models", base, place, command))
        for name, words in study.prepare.items():
            place = _prepared(study, out, name, base)
            model = model_of(study, out, base)
            known = {"model": model, "base": short(study, base), "dir": str(place)}
            command = tuple(_filled(word, known, f"prepare.{name}") for word in words)
            needs = (_built(out, base),) if base in study.models else ()
            found.append(Preparation(name, base, place, command, needs))
    return found


def model_of(study: Study, out: Path, base: str) -> str:
    """What a base is loaded by."""
    if base not in study.models:
        return base
    return _filled(study.models[base].model, {"dir": str(_built(out, base))}, f"models.{base}")


def short(study: Study, base: str) -> str:
    """The last parts of a base's name that tell it from the others, fit for a directory."""
    for parts in range(1, max(len(b.split("/")) for b in study.bases) + 1):
        names = ["-".join(b.rstrip("/").split("/")[-parts:]) for b in study.bases]
        if len(set(names)) == len(names):
            break
    name = "-".join(base.rstrip("/").split("/")[-parts:])
    return re.sub(r"[^A-Za-z0-9._+-]", "-", name)


def run_directory(study: Study, out: Path, arm: str, base: str, seed: int) -> Path:
    """Where a run is."""
    return out / "runs" / arm / short(study, base) / f"seed-{seed}"


def _built(out: Path, base: str) -> Path:
    return out / "models" / base


def _prepared(study: Study, out: Path, name: str, base: str) -> Path:
    return out / "prepared" / name / short(study, base)


def _planned(study: Study, out: Path, arm: str, base: str, seed: int) -> Planned:
    needs: list[Path] = [_built(out, base)] if base in study.models else []
    known = {"base": short(study, base), "model": model_of(study, out, base)}
    for name in study.prepare:
        known[name] = str(_prepared(study, out, name, base))

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [fill(item) for item in value]
        if not isinstance(value, str):
            return value
        for other in OTHER_RUN.findall(value):
            if other not in study.arms or other == arm:
                raise ConfigError(
                    f"arm '{arm}' needs the run of '{other}'", fix=did_you_mean(other, study.arms)
                )
            place = run_directory(study, out, other, base, seed)
            needs.append(place)
            value = value.replace(f"{{run:{other}}}", str(place))
        for name in study.prepare:
            if f"{{{name}}}" in value:
                needs.append(_prepared(study, out, name, base))
        return _filled(value, known, f"arms.{arm}")

    tree = _laid_over(study.recipe, study.arms[arm])
    tree = fill(tree)
    tree["model"] = {**(tree.get("model") or {}), "name": model_of(study, out, base)}
    tree["seed"] = seed
    if study.budget.at_most is not None and study.budget.unit != "updates":
        tree["optim"] = {
            **(tree.get("optim") or {}), f"max_{study.budget.unit}": study.budget.at_most
        }  # fmt: skip
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


def _filled(text: str, known: Mapping[str, str], where: str) -> str:
    for name in re.findall(r"\{([A-Za-z_]\w*)\}", text):
        if name not in known:
            raise ConfigError(
                f"{where} names {{{name}}}, which is nothing here",
                got=text,
                wanted=", ".join(f"{{{key}}}" for key in known),
            )
        text = text.replace(f"{{{name}}}", known[name])
    return text
