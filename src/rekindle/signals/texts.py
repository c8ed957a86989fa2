"""What this folder's YAML files say: sentences, refusals and studies, read when they are needed."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from rekindle.errors import RekindleError

E = TypeVar("E", bound=RekindleError)


@cache
def texts(name: str) -> Any:
    """The content of NAME.yaml."""
    path = files("rekindle.signals").joinpath(f"{name}.yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def refusal(kind: type[E], name: str, got: object, /, **values: object) -> E:
    """The error that refusals.yaml has under a name, with values for the braces."""
    parts = {part: text.format(**values) for part, text in texts("refusals")[name].items()}
    return kind(got=got, **parts)
