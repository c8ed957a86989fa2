"""`rekindle explain advantages`: the training step's own credit, on rows from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rekindle.engine.config import SampleConfig
from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.files import read_jsonl, write_jsonl
from rekindle.methods.catalog import find_method, method_module, methods_of
from rekindle.ops.groups import ScoredRows
from rekindle.training.recipe import checked, with_overrides

_NUMBERS = ("correct", "rm_score", "sum_logprob", "num_tokens")


def run_explain_advantages(
    method: str, source: Path, target: Path, overrides: Sequence[str]
) -> None:
    """Add `reward`, `advantage`, `group_class` and the method's own columns (`penalty`, `weight`,
    ...) to each row, in order; a null is missing."""
    known = methods_of("group")
    if method not in known:
        raise ConfigError(
            f"method '{method}' gives no group advantages", fix=did_you_mean(method, known)
        )
    module = method_module(method)
    preset = module.PRESETS[method].model_dump()
    section = find_method(method).section
    plain = [override.removeprefix(f"{section}.") for override in overrides]
    config = checked(module.Config, with_overrides(preset, plain), section)
    module.check(config, SampleConfig())
    numbered = read_jsonl(source)
    rows = [row for _, row in numbered]
    columns = {
        name: [_number(source, line, row, name) for line, row in numbered] for name in _NUMBERS
    }
    credit = module.credit(
        ScoredRows(
            group=[_group(source, line, row) for line, row in numbered],
            **{
                f"{name}_N": torch.tensor(values, dtype=torch.float64)
                for name, values in columns.items()
            },
        ),
        config,
    )
    added: dict[str, Any] = {
        "reward": credit.reward_N.tolist(),
        "advantage": credit.advantage_N.tolist(),
        "group_class": credit.group_class_N,
        **{name: column.tolist() for name, column in credit.columns.items()},
    }
    write_jsonl(
        target,
        [
            {**row, **{name: values[i] for name, values in added.items()}}
            for i, row in enumerate(rows)
        ],
    )


def _group(source: Path, line: int, row: dict[str, Any]) -> str:
    if "group" not in row:
        raise DataError(
            f"{source}:{line} has no 'group'", got=row, why="advantages compare answers of a group"
        )
    group = row["group"]
    if not isinstance(group, str | int) or isinstance(group, bool):
        raise DataError(f"{source}:{line}: 'group' is not a name", got=group, wanted="a string")
    return str(group)


def _number(source: Path, line: int, row: dict[str, Any], name: str) -> float:
    if name == "correct" and name not in row:
        raise DataError(
            f"{source}:{line} has no 'correct'",
            got=row,
            wanted="0, 1, or null for a score that is missing",
        )
    value = row.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool):
        value = int(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(
            f"{source}:{line}: '{name}' is not a number",
            got=value,
            wanted="a finite number, or null when it is missing",
        )
    if name == "correct" and not 0 <= value <= 1:
        raise DataError(
            f"{source}:{line}: 'correct' is out of range",
            got=value,
            wanted="0 to 1",
            why="the classes all_wrong and all_right are read from it; -1 would count as mixed",
            fix="map wrong to 0 and right to 1",
        )
    if name == "num_tokens" and value < 0:
        raise DataError(f"{source}:{line}: 'num_tokens' is negative", got=value, wanted="0 or more")
    return float(value)
