"""`rekindle explain curriculum`: WMSS's own sampling weights, on rows from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.files import read_jsonl, write_jsonl
from rekindle.methods.wmss.curriculum import CurriculumConfig, curriculum
from rekindle.training.recipe import checked, with_overrides

_SETTINGS = ("mode", "alpha", "beta", "gamma")


def run_explain_curriculum(source: Path, target: Path, overrides: Sequence[str]) -> None:
    """Add `weight` (summing to 1 over the file) and `class` to each row, in order."""
    plain = [override.removeprefix("wmss.") for override in overrides]
    for override in plain:
        name = override.split("=", 1)[0]
        if name not in _SETTINGS:
            raise ConfigError(
                f"setting '{name}' has no effect here", fix=did_you_mean(name, _SETTINGS)
            )
    defaults = CurriculumConfig().model_dump()
    settings = checked(CurriculumConfig, with_overrides(defaults, plain), "wmss")
    numbered = read_jsonl(source)
    weak, strong = (
        torch.tensor(
            [_entropy(source, line, row, name) for line, row in numbered], dtype=torch.float64
        )
        for name in ("entropy_weak", "entropy_strong")
    )
    found = curriculum(
        weak,
        strong,
        mode=settings.mode,
        alpha=settings.alpha,
        beta=settings.beta,
        gamma=settings.gamma,
    )
    weights = found.weight_N.tolist()
    write_jsonl(
        target,
        [
            {**row, "weight": weight, "class": name}
            for (_, row), weight, name in zip(numbered, weights, found.class_N, strict=True)
        ],
    )


def _entropy(source: Path, line: int, row: dict[str, Any], name: str) -> float:
    if "id" not in row:
        raise DataError(f"{source}:{line} has no 'id'", got=row)
    value = row.get(name)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value < 0
    ):
        raise DataError(
            f"{source}:{line} has no usable '{name}'",
            got=value,
            wanted="mean nats a token, a finite number, 0 or more",
        )
    return float(value)
