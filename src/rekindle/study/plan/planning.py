"""From a study file to its runs: read and checked, with the directory and needs of each run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rekindle.engine.yaml_text import read_mapping
from rekindle.errors import ConfigError
from rekindle.files import each_leaf
from rekindle.study.plan.base_models import PREFIX, build_order, sources_of
from rekindle.study.plan.fairness import check_runs
from rekindle.study.plan.placeholders import PLACEHOLDER, fill_in
from rekindle.study.plan.study_file import PlannedRun, Preparation, Study, check_study
from rekindle.training.recipe import checked, make_recipe, with_overrides

OTHER_RUN = re.compile(r"\{run:([^{}]+)\}")


def load_study(source: Path | str | Mapping[str, object], overrides: Sequence[str] = ()) -> Study:
    """Read, override and check a study file, or the same as a mapping.

    Raises:
        ConfigError: not YAML, a key twice, unknown keys, an arm or baseline that does not
            exist, or names, comparisons and settings that make no sense.
        DataError: the file does not exist.
    """
    tree: Mapping[str, object] = (
        source
        if isinstance(source, Mapping)
        else read_mapping(Path(source), kind="study", see="see studies/")
    )
    study = checked(Study, with_overrides(tree, overrides), "")
    check_study(study)
    return study


def plan(study: Study, out: Path) -> list[PlannedRun]:
    """Every run, those of one base and seed together, so that early ones compare in pairs.

    Raises:
        ConfigError: a recipe makes no sense, two bases would have one directory, arms wait for
            each other or would be evaluated in different ways, or what is compared would not be
            measured.
    """
    _refuse_shared_directory(study)
    runs = [
        _plan_run(study, out, arm, base, seed)
        for seed in study.seeds
        for base in study.bases
        for arm in study.arms
    ]
    check_runs(study, runs)
    return runs


def preparations(study: Study, out: Path) -> list[Preparation]:
    """What runs before the arms: models that are made, then what each base needs."""
    steps: dict[Path, Preparation] = {}
    commands = {name: built.run for name, built in study.models.items()}
    for base in study.bases:
        for name in build_order(commands, base):
            steps.setdefault(_model_directory(out, name), _build_model(study, out, name))
        for name, command in study.prepare.items():
            place = _preparation_directory(study, out, name, base)
            known = {
                "model": model_of(study, out, base),
                "base": short_names(study.bases)[base],
                "dir": str(place),
            }
            filled = tuple(fill_in(word, known, f"prepare.{name}") for word in command)
            needs = (_model_directory(out, base),) if base in study.models else ()
            steps[place] = Preparation(name, base, place, filled, needs)
    return list(steps.values())


def _build_model(study: Study, out: Path, name: str) -> Preparation:
    place, command = _model_directory(out, name), study.models[name].run
    sources = sources_of(command)
    known = {"dir": str(place)} | {PREFIX + one: model_of(study, out, one) for one in sources}
    filled = tuple(fill_in(word, known, f"models.{name}") for word in command)
    needs = tuple(_model_directory(out, one) for one in sources)
    return Preparation("models", name, place, filled, needs)


def model_of(study: Study, out: Path, base: str) -> str:
    """What a base is loaded by."""
    if base not in study.models:
        return base
    return fill_in(
        study.models[base].model, {"dir": str(_model_directory(out, base))}, f"models.{base}"
    )


def short_names(bases: Sequence[str]) -> dict[str, str]:
    """Base -> the last parts of its name that tell it from the others, fit for a directory."""
    split = {base: base.rstrip("/").split("/") for base in bases}
    for parts in range(1, max(map(len, split.values())) + 1):
        names = {base: "-".join(steps[-parts:]) for base, steps in split.items()}
        if len(set(names.values())) == len(names):
            break
    return {base: re.sub(r"[^A-Za-z0-9._+-]", "-", name) for base, name in names.items()}


def run_directory(study: Study, out: Path, arm: str, base: str, seed: int) -> Path:
    """Where a run is."""
    return out / "runs" / arm / short_names(study.bases)[base] / f"seed-{seed}"


def _refuse_shared_directory(study: Study) -> None:
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
                why="the runs of one would be mistaken for the other's",
                fix="give one of them by a path that ends otherwise, e.g. a link",
            )
        owners[name] = base


def _model_directory(out: Path, base: str) -> Path:
    return out / "models" / base


def _preparation_directory(study: Study, out: Path, name: str, base: str) -> Path:
    return out / "prepared" / name / short_names(study.bases)[base]


def _plan_run(study: Study, out: Path, arm: str, base: str, seed: int) -> PlannedRun:
    needs = [_model_directory(out, base)] if base in study.models else []
    model = model_of(study, out, base)
    places = {name: _preparation_directory(study, out, name, base) for name in study.prepare} | {
        f"run:{other}": run_directory(study, out, other, base, seed)
        for other in study.arms
        if other != arm
    }
    known = {"base": short_names(study.bases)[base], "model": model}
    known |= {name: str(place) for name, place in places.items()}

    def fill(value: object) -> object:
        if not isinstance(value, str):
            return value
        needs.extend(places[name] for name in PLACEHOLDER.findall(value) if name in places)
        return fill_in(value, known, f"arms.{arm}")

    merged = _merge(study.recipe, study.arms[arm])
    tree = {key: each_leaf(value, fill) for key, value in merged.items()}
    tree["model"] = {**_section(tree, "model", arm), "name": model}
    tree["seed"] = seed
    if study.budget.at_most is not None and study.budget.unit != "updates":
        limit = {f"max_{study.budget.unit}": study.budget.at_most}
        tree["optim"] = {**_section(tree, "optim", arm), **limit}
    try:
        recipe = make_recipe(tree)
    except ConfigError as error:
        raise ConfigError(f"arm '{arm}': {error}") from error
    place = run_directory(study, out, arm, base, seed)
    return PlannedRun(arm, base, seed, place, recipe, tuple(dict.fromkeys(needs)))


def _merge(below: Mapping[str, object], above: Mapping[str, object]) -> Mapping[str, object]:
    """A tree laid over another: sections are merged key by key, all else is replaced."""
    tree = dict(below)
    for key, value in above.items():
        under = tree.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            value = _merge(under, value)
        tree[key] = value
    return tree


def _section(tree: Mapping[str, object], name: str, arm: str) -> Mapping[str, object]:
    section = tree.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(
            f"arm '{arm}': section '{name}' is not a mapping",
            got=section,
            wanted="keys and values",
            fix=f"write its settings below '{name}:'",
        )
    return section
