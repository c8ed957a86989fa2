"""`{NAME}` in a study's commands and settings: what it stands for, or an error, never itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rekindle.errors import ConfigError, did_you_mean

PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.:+-]*)\}")
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)  # of a preparation, so that it can be named
RESERVED = ("base", "model", "dir")  # they have a meaning already


def fill_in(text: str, known: Mapping[str, str], where: str) -> str:
    """`text` with what each placeholder stands for; braces around anything else stay.

    Raises:
        ConfigError: one of them is not among `known`.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in known:
            return known[name]
        arms = [key.removeprefix("run:") for key in known if key.startswith("run:")]
        if name.startswith("run:") and arms:
            other = name.removeprefix("run:")
            raise ConfigError(
                f"{where} needs the run of '{other}'", got=text, fix=did_you_mean(other, arms)
            )
        raise ConfigError(
            f"{where} names {{{name}}}, which is nothing here",
            got=text,
            wanted=", ".join(f"{{{key}}}" for key in known),
            why="the command or setting would hold the braces themselves",
            fix="name one of these, or take the braces away",
        )

    return PLACEHOLDER.sub(value, text)
