"""Metrics of JSON lines: one object a logged step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rekindle.signals.logs.lines import Damage, Row, each_line, number

STEPS = ("step", "_step", "global_step", "training/global_step", "train/global_step")


def read_objects(path: Path) -> list[Mapping[str, float]]:
    """The numbers of each object of a file.

    Raises:
        DataError: the file cannot be read.
    """
    return list(each_line(path, lambda row, _: _numbers(row), Damage()))


def read_rows(path: Path) -> tuple[Mapping[str, float], ...]:
    """Objects with numbers, each with its `step`; rows without one are left out.

    Raises:
        DataError: the file cannot be read.
    """
    rows = each_line(path, lambda row, _: numbers_of(row), Damage())
    return tuple(row for row in rows if row is not None)


def numbers_of(row: Row) -> Mapping[str, float] | None:
    """The numbers of an object, and its step by the name that the trainer has for it."""
    found = _numbers(row)
    step = next((found[name] for name in STEPS if name in found), None)
    return None if step is None else {**found, "step": step}


def _numbers(row: Row) -> Mapping[str, float]:
    return {str(key): value for key in row if (value := number(row.get(key))) is not None}
