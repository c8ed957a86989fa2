"""Base models that a study makes, and those that they are made from.

    models:
      chain-s5:
        run: [testbed, build, chain-s5, --quiet, --out, "{dir}"]
        model: "{dir}/chain-s5/final"
      judge-s5:
        run: [train, judge.yaml, --set, "model.name={model:chain-s5}", --out, "{dir}"]
        model: "{dir}/final"

`{model:NAME}` is what another of `models` is loaded by; that one is made first, and need not be a
base itself.
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


def made_from(command: Sequence[str]) -> tuple[str, ...]:
    """The models that a command begins with, in the order of their names in it."""
    return tuple(dict.fromkeys(name for word in command for name in _OTHER.findall(word)))


def in_order(commands: Mapping[str, Sequence[str]], base: str) -> list[str]:
    """What is made for a base, sources first, the base last; nothing for one that is not made."""
    if base not in commands:
        return []
    before = [name for other in made_from(commands[base]) for name in in_order(commands, other)]
    return [*dict.fromkeys(before), base]


def check_made(commands: Mapping[str, Sequence[str]], bases: Collection[str]) -> None:
    """Refuse models that cannot be made, or that nothing begins with.

    Raises:
        ConfigError: a source that is not there, models that wait for each other, or an unused one.
    """
    sources = {name: made_from(command) for name, command in commands.items()}
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
    used = {name for base in bases for name in in_order(commands, base)}
    unused = [name for name in commands if name not in used]
    if unused:
        raise ConfigError(
            f"models.{unused[0]} is not among the bases, and no other model is made from it",
            fix="add it to 'bases', or remove it",
        )


def same_model(name: str) -> str:
    """One name for all by which a model can be called: a path, another spelling of it, a link."""
    plain = os.path.normpath(name)
    if Path(name).exists():
        return str(Path(name).resolve())
    return str(Path(located(plain)).resolve()) if plain in (*names(), *DERIVED) else plain
