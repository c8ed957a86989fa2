"""Base models that a study makes, and the models that they start from.

    models:
      chain-s5:
        run: [testbed, build, chain-s5, --quiet, --out, "{dir}"]
        model: "{dir}/chain-s5/final"
      judge-s5:
        run: [train, judge.yaml, --set, "model.name={model:chain-s5}", --out, "{dir}"]
        model: "{dir}/final"

`{model:NAME}` is the path of another of `models`. That one is made first, and need not be a base.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from rekindle.errors import ConfigError, did_you_mean
from rekindle.testbed import DERIVED, located, names

PREFIX = "model:"
_OTHER = re.compile(r"\{model:([^{}]*)\}")


def sources_of(command: Sequence[str]) -> tuple[str, ...]:
    """The models that a command begins with, in the order of their names in it."""
    return tuple(dict.fromkeys(name for word in command for name in _OTHER.findall(word)))


def build_order(commands: Mapping[str, Sequence[str]], base: str) -> list[str]:
    """The models to make for a base, sources first, the base last; none where it is not made."""
    if base not in commands:
        return []
    before = [name for other in sources_of(commands[base]) for name in build_order(commands, other)]
    return [*dict.fromkeys(before), base]


def check_sources(commands: Mapping[str, Sequence[str]], bases: Collection[str]) -> None:
    """ConfigError where a model's source is missing, models wait for each other, or one is not
    used."""
    sources = {name: sources_of(command) for name, command in commands.items()}
    for name, others in sources.items():
        for other in others:
            if other not in commands:
                raise ConfigError(
                    f"models.{name} is made from '{other}', which is not among the models",
                    fix=did_you_mean(other, commands),
                )
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as error:
        raise ConfigError(
            "models are made from each other",
            got=" from ".join(reversed(error.args[1])),
            why="none of them could be made",
            fix="take {model:...} out of one of them",
        ) from error
    used = {name for base in bases for name in build_order(commands, base)}
    unused = [name for name in commands if name not in used]
    if unused:
        raise ConfigError(
            f"models.{unused[0]} is not among the bases, and no other model is made from it",
            fix="add it to 'bases', or remove it",
        )


def canonical_name(name: str) -> str:
    """The one name of a model that can be given by several: a path, another spelling, a link."""
    plain = os.path.normpath(name)
    if Path(name).exists():
        return str(Path(name).resolve())
    return str(Path(located(plain)).resolve()) if plain in (*names(), *DERIVED) else plain
