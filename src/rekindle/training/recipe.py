"""A recipe: one YAML file that says what is trained, on what, and how.

Shared sections are in `engine.config`; the method's own section bears the name of its file and is
the only method section allowed. Its defaults are the preset that `method` names. Overrides
(`section.key=value`) are applied to the YAML before it is checked.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from rekindle.engine.config import (
    CheckpointConfig,
    DeviceConfig,
    EvalConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    RewardConfig,
    SampleConfig,
    Section,
    TaskConfig,
)
from rekindle.engine.yaml_text import read_mapping, read_yaml
from rekindle.errors import ConfigError, did_you_mean
from rekindle.loops.reward_scores import check_reward, refuse_no_source
from rekindle.methods.catalog import (
    METHODS,
    Paper,
    find_method,
    method_module,
    section_names,
)


class Shared(Section):
    """The sections that every method has."""

    method: str = Field(description="see `rekindle methods`")
    seed: int = Field(default=0, ge=0, description="of problems and draws")
    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    reward: RewardConfig = RewardConfig()
    sample: SampleConfig = SampleConfig()
    optim: OptimConfig = OptimConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    eval: EvalConfig = EvalConfig()
    log: LogConfig = LogConfig()
    device: DeviceConfig = DeviceConfig()


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: the shared sections and the method's own."""

    shared: Shared
    method: Section

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as config.yaml holds it."""
        plain = self.shared.model_dump(mode="json")
        section = find_method(self.shared.method).section
        return {**plain, section: self.method.model_dump(mode="json")}


RecipeSource = Recipe | Mapping[str, object] | Path | str


def recipe_of(source: RecipeSource, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from what a caller has: a file's path, plain data, or a checked recipe.

    Raises:
        ConfigError, DataError: as `load_recipe`.
    """
    if isinstance(source, Recipe):
        return make_recipe(source.resolved(), overrides) if overrides else source
    if isinstance(source, Mapping):
        return make_recipe(source, overrides)
    given: object = source
    if not isinstance(given, str | Path):
        raise ConfigError(
            "this is no recipe",
            got=given,
            wanted="the path of a YAML file, a mapping with its keys, or a checked recipe",
        )
    return load_recipe(given, overrides)


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe file.

    Raises:
        ConfigError: not YAML, a key twice, unknown keys (with a suggestion), wrong values, or a
            combination that cannot be meant.
        DataError: the file does not exist.
    """
    tree = read_mapping(Path(path), kind="recipe", see="see recipes/ for those shipped")
    return make_recipe(tree, overrides)


def make_recipe(tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from plain data; see `load_recipe`."""
    tree = with_overrides(tree, overrides)
    method = tree.get("method")
    if not isinstance(method, str):
        raise ConfigError("the recipe names no method", got=method, fix=did_you_mean("", METHODS))
    found = find_method(method)
    module, section = method_module(method), found.section
    others = section_names() - {section}
    known = {*Shared.model_fields, section}
    for key in tree:
        if key in others:
            raise ConfigError(
                f"section '{key}' has no effect with method: {method}",
                why="only the chosen method's section is read",
                fix=f"remove it, or choose method: {key}",
            )
        if key not in known:
            raise ConfigError(f"unknown section '{key}'", fix=did_you_mean(str(key), known))
    own = tree.get(section) or {}
    if not isinstance(own, Mapping):
        raise ConfigError(
            f"section '{section}' is not a mapping", got=own, wanted="keys and values"
        )
    preset = module.PRESETS[method].model_dump()
    shared = checked(Shared, {k: v for k, v in tree.items() if k != section and v is not None}, "")
    method_config = checked(module.Config, {**preset, **own}, section)
    module.check(method_config, shared.sample)
    check_reward(shared.reward)
    if "reward model" in found.needs:
        refuse_no_source(shared.reward, method)
    return Recipe(shared=shared, method=method_config)


def papers_of_recipe(recipe: Recipe) -> list[str | Paper]:
    """The papers of a recipe's method, as its row has them, and of what its settings switch on."""
    method, own = find_method(recipe.shared.method), recipe.method.model_dump()
    dpo: Mapping[str, float] = own if method.name == "dpo" else own.get("dpo", {})
    by_dpo = bool(dpo) and own.get("loss", "dpo") == "dpo"
    switched_on = {
        "dpo": by_dpo,
        "rpo": by_dpo and dpo["nll"] > 0,
        "orpo": own.get("loss") == "orpo",
        "meta_rewarding": own.get("ties") == "shortest",
        "dapo": own.get("extra_rollouts", 0) > 0,
        "neftune": own.get("neftune_noise_alpha", 0) > 0,
        "label_smoothing": own.get("label_smoothing_factor", 0) > 0,
    }
    used = [name for name, on in switched_on.items() if on]
    return list(dict.fromkeys([*method.papers, *used]))


def with_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of nested data with each `a.b=value` set; values are read as YAML."""
    out = dict(tree)
    for override in overrides:
        name, equals, text = override.partition("=")
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(
                "an override is not of the form section.key=value",
                got=override,
                fix="e.g. --set optim.lr=1e-4",
            )
        node = out
        for part in parts[:-1]:
            inner = {} if node.get(part) is None else node[part]
            if not isinstance(inner, Mapping):
                raise ConfigError(
                    f"override '{name}' goes into a value",
                    got=f"{part} is {inner!r}",
                    wanted="a section",
                )
            node[part] = node = dict(inner)
        node[parts[-1]] = _value(text, override)
    return out


_EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
M = typing.TypeVar("M", bound=BaseModel)


def checked(model: type[M], values: Mapping[str, Any], section: str) -> M:
    """Validate plain data; the first mistake becomes a ConfigError that names the key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors()
        # What seems to be missing is often there under a mistyped name: that one is told first.
        first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        place = ".".join(str(part) for part in (section, *first["loc"]) if part != "")
        if first["type"] == "extra_forbidden":
            prefix = place.rsplit(".", 1)[0] + "." if "." in place else ""
            known = [prefix + name for name in _keys_at(model, first["loc"][:-1])]
            raise ConfigError(f"unknown key '{place}'", fix=did_you_mean(place, known)) from error
        raise _unusable(place, first, _keys_at(model, first["loc"])) from error


_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
}


def _unusable(place: str, fault: Mapping[str, Any], keys: Sequence[str]) -> ConfigError:
    """What was wanted, in words that are not pydantic's where there are some, and what to do."""
    kind, given, last = str(fault["type"]), fault["input"], place.rsplit(".", 1)[-1]
    if kind == "missing":
        there = f"keys {', '.join(map(str, given))}" if isinstance(given, Mapping) else given
        return ConfigError(f"'{place}' is missing", got=there, fix="add it")
    wanted = _WANTED.get(kind, str(fault["msg"]).lower().removeprefix("input should be "))
    fixes = {
        "too_short": f"add to '{place}'",
        "tuple_type": f"write {last}: [{given}]",
        "dict_type": f"write its settings below '{last}:'",
        "model_type": f"write its settings below '{last}:'",
    }
    if isinstance(given, int | float):
        fixes["string_type"] = f'put it in quotes: "{given}"'
    if kind == "too_short":
        least = fault["ctx"]["min_length"]
        wanted = f"at least {'one' if least == 1 else least}"
    elif kind in ("dict_type", "model_type") and keys:
        wanted += f": {', '.join(keys)}"
    return ConfigError(
        f"{place} cannot be used",
        got="nothing (null)" if given is None else given,
        wanted=wanted,
        fix="give it a value, or remove the key" if given is None else fixes.get(kind),
    )


def _keys_at(kind: Any, path: Sequence[int | str]) -> list[str]:
    """The keys of the section to which fields, positions in lists and names lead; [] for others."""
    for part in path:
        kind = _not_none(kind)
        inside = typing.get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = kind.model_fields[str(part)].annotation
        elif inside:
            kind = inside[-1] if typing.get_origin(kind) is dict else inside[0]
        else:
            return []
    kind = _not_none(kind)
    is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
    return list(kind.model_fields) if is_section else []


def _not_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        some = [inner for inner in typing.get_args(kind) if inner is not type(None)]
        return some[0] if len(some) == 1 else kind
    return kind


def _value(text: str, override: str) -> Any:
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError("an override has a value that is not YAML", got=override) from error
    # YAML 1.1 reads 1e-4 as text; people mean the number. In quotes it is meant as text.
    return float(text) if _EXPONENT.fullmatch(text.strip()) else value
