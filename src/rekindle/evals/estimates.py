"""Estimates with their intervals from plain lists of outcomes: pass@k, and a difference in pairs.

Lists, numpy arrays and tensors are taken alike; None (nan in an array) is missing.

Axes: P problems, K samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsFloat

import numpy as np

from rekindle.errors import DataError
from rekindle.evals import passk
from rekindle.evals.intervals import Floats, Interval, cluster, paired
from rekindle.records import Array

Nested = float | list["Nested"]
Numbers = Sequence[float | Sequence[float | None] | None] | Array


def pass_at_k(outcomes: Numbers, k: int) -> Interval:
    """pass@k: the chance that one of k answers to a problem, drawn without replacement, is right.

    Chen et al. 2021, arXiv 2107.03374, eq. 1, unbiased, of each problem; then the mean over
    problems with a 95 % interval (bootstrap-t over problems).

    Args:
        outcomes: [P, K] 1 or 0 (a partial score counts as wrong); problems may have other numbers
            of samples. A flat list is one problem.
        k: answers that are drawn; problems with fewer scored samples are left out.

    Returns:
        `value`, `ci_low`, `ci_high`, and `n`, the problems that entered; nan where undefined (one
        problem has no interval).

    Raises:
        DataError: `k` is not a whole number from 1 on, or an outcome is no number.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise DataError("k is not a count", got=k, wanted="a whole number, 1 or more")
    rows = _list(outcomes, "outcomes")
    flat = bool(rows) and all(isinstance(row, float) for row in rows)
    table = _table([rows] if flat else rows, "outcomes")
    width = max(map(len, table), default=0)
    padded = [[*row, *([math.nan] * (width - len(row)))] for row in table]
    outcome_PK = np.array(padded, dtype=np.float64).reshape(len(table), width)
    return cluster(passk.pass_at_k(outcome_PK, k))


def paired_difference(a: Numbers, b: Numbers) -> Interval:
    """The mean of `a - b` over problems, with a 95 % interval (bootstrap-t over problems).

    Args:
        a, b: [P] a value a problem in the same order, or [P, K] outcomes, which are averaged over
            a problem's samples first. Problems that lack a value on either side are left out.

    Returns:
        `value`, `ci_low`, `ci_high`, and `n`, the problems that entered; nan where undefined.

    Raises:
        DataError: the two have other numbers of problems, or hold something else than numbers.
    """
    first, second = _means(a, "a"), _means(b, "b")
    if len(first) != len(second):
        raise DataError(
            "the two sides have other numbers of problems",
            got=f"{len(first)} and {len(second)}",
            wanted="the same problems in the same order",
            why="each problem is compared with itself",
        )
    known = np.concatenate([first, second])
    known = known[~np.isnan(known)]
    within = bool(((known >= 0) & (known <= 1)).all())
    reach = 1.0 if within else math.inf
    return paired(first, first if a is b else second, bounds=(-reach, reach))


def nested_numbers(values: object, name: str) -> Nested:
    """Numbers, or lists of them as deep as they come, as floats; None becomes nan.

    Raises:
        DataError: `name` holds something else than numbers, or an infinite one.
    """
    if isinstance(values, Array):
        values = values.tolist()
    if values is None:
        return math.nan
    text = isinstance(values, str | bytes)
    if isinstance(values, SupportsFloat) and not text:
        number = float(values)
        if not math.isinf(number):
            return number
    if isinstance(values, SupportsFloat | Mapping) or text or not isinstance(values, Iterable):
        raise DataError(
            f"'{name}' holds something else than finite numbers",
            got=values,
            wanted="a list, array or tensor of numbers; None where one is missing",
        )
    return [nested_numbers(item, name) for item in values]


def _means(values: Numbers, name: str) -> Floats:
    table = _table([[row] if isinstance(row, float) else row for row in _list(values, name)], name)
    return np.array([np.nanmean(row) if not np.isnan(row).all() else np.nan for row in table])


def _table(rows: list[Nested], name: str) -> list[list[float]]:
    table = []
    for row in rows:
        flat = [item for item in row if isinstance(item, float)] if isinstance(row, list) else []
        if not isinstance(row, list) or len(flat) < len(row):
            raise DataError(
                f"'{name}' is not one list of numbers a problem", got=row, wanted="[[1, 0], ...]"
            )
        table.append(flat)
    return table


def _list(values: Numbers, name: str) -> list[Nested]:
    nested = nested_numbers(values, name)
    if isinstance(nested, list):
        return nested
    raise DataError(f"'{name}' is a single number", got=nested, wanted="a list, one item a problem")
