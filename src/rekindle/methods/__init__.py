"""One file per paper. `METHODS` is the list: name -> the module that holds the paper."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from rekindle.errors import ConfigError, did_you_mean

METHODS: dict[str, str] = {
    "sft": "rekindle.methods.sft",
    "grpo": "rekindle.methods.grpo",
    "dr_grpo": "rekindle.methods.grpo",
    "dapo": "rekindle.methods.grpo",
    "rloo": "rekindle.methods.grpo",
}

# methods that give credit to groups of scored answers: `rekindle explain advantages`
GROUP_METHODS = ("grpo", "dr_grpo", "dapo", "rloo")


def method_module(name: str) -> ModuleType:
    """The module of a method: `Config`, `PRESETS`, `check`, `run`.

    Raises:
        ConfigError: there is no such method; what exists is listed.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method '{name}'", fix=did_you_mean(name, METHODS))
    return import_module(METHODS[name])


def section_name(method: str) -> str:
    """The recipe section that configures a method: its module's name (`dapo` is set in `grpo:`)."""
    method_module(method)
    return METHODS[method].rsplit(".", 1)[-1]
