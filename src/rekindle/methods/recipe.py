"""A recipe: one YAML file that says what is trained, on what, and how.

Shared sections are in `engine.config`; the method's own section bears the name of its file and is
the only method section allowed. Its defaults are the preset that `method` names. Overrides
(`section.key=value`) are applied to the YAML before it is checked.
"""

from __future__ import annotations

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
from rekindle.methods import METHODS, RANKERS, method_module, section_name
from rekindle.methods.rewarding import check_reward, refuse_no_source


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
        return {**plain, section_name(self.shared.method): self.method.model_dump(mode="json")}


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
    module, section = method_module(method), section_name(method)
    others = {section_name(name) for name in METHODS} - {section}
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
    if not isinstance(own, dict):
        raise ConfigError(
            f"section '{section}' is not a mapping", got=own, wanted="keys and values"
        )
    preset = module.PRESETS[method].model_dump()
    shared = checked(Shared, {k: v for k, v in tree.items() if k != section and v is not None}, "")
    method_config = checked(module.Config, {**preset, **own}, section)
    module.check(method_config, shared.sample)
    check_reward(shared.reward)
    if method in RANKERS:
        refuse_no_source(shared.reward, method)
    return Recipe(shared=shared, method=method_config)


def with_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of nested data with each `a.b=value` set; values are read as YAML."""
    out: dict[str, Any] = _copy(tree)
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
            inner = node.get(part)
            if inner is None:
                inner = node[part] = {}
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"override '{name}' goes into a value",
                    got=f"{part} is {inner!r}",
                    wanted="a section",
                )
            node = inner
        node[parts[-1]] = _value(text, override)
    return out


M = typing.TypeVar("M", bound=BaseModel)


def checked(model: type[M], values: Mapping[str, Any], section: str) -> M:
    """Validate plain data; the first mistake becomes a ConfigError that names the key."""
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (section, *first["loc"]) if part != "")
        if first["type"] == "extra_forbidden":
            known = _siblings(model, [str(part) for part in first["loc"][:-1]])
            prefix = place.rsplit(".", 1)[0] + "." if "." in place else ""
            raise ConfigError(
                f"unknown key '{place}'",
                fix=did_you_mean(place, [prefix + name for name in known]),
            ) from error
        raise _unusable(place, first) from error


def _unusable(place: str, fault: Mapping[str, Any]) -> ConfigError:
    if fault["type"] == "missing":
        return ConfigError(
            f"'{place}' is missing", got=f"keys {', '.join(fault['input'])}", fix="add it"
        )
    empty = fault["input"] is None
    return ConfigError(
        f"{place} cannot be used",
        got="nothing (null)" if empty else fault["input"],
        wanted=fault["msg"].lower(),
        fix="give it a value, or remove the key" if empty else None,
    )


def _siblings(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        inner = model.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)


def _value(text: str, override: str) -> Any:
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError("an override has a value that is not YAML", got=override) from error
    return _number(value)


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-4 as text; people mean the number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _copy(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _copy(item) for key, item in tree.items()}
    return list(tree) if isinstance(tree, list) else tree
