"""The groups of a log, one row each, with its class as `ops.groups.classify` has it.

    all_wrong   every known verdict is 0, whatever the totals
    all_right   every known verdict is 1, whatever the totals
    tied        otherwise, no two totals differ
    mixed       the rest
    missing     no verdict is known

Axes: N rows, P groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rekindle.errors import ConfigError, did_you_mean
from rekindle.signals.logs.run_log import Bools, Floats, Ints, RunLog

CLASSES = ("all_wrong", "tied", "mixed", "all_right", "missing")
ALL_WRONG, TIED, MIXED, ALL_RIGHT, MISSING = range(5)
OF_FORM = ("format", "length", "overlong", "_len", "tags")
_NAMES = ("verif", "correct", "acc", "answer", "exact", "math", "right", "solved", "outcome")


class Verdicts:
    """Right or wrong for each row, and which column says so.

    Attributes:
        value_N: [N] 1 right, 0 wrong, nan missing; partial scores where there is no column of two
            values.
        column: its name; `score` is the reward that was used.
        sentence: why this column.
        is_binary: whether it has two values.
    """

    def __init__(self, value_N: Floats, column: str, sentence: str, *, is_binary: bool) -> None:
        self.value_N, self.column, self.sentence = value_N, column, sentence
        self.is_binary = is_binary


def find_verdicts(log: RunLog, column: str | None = None) -> Verdicts:
    """The verdicts of a log: the column that is named, else the one that has two values.

    Raises:
        ConfigError: there is no such column.
    """
    columns = {"score": log.score_N, **log.parts}
    if column is not None and column not in columns:
        raise ConfigError(
            f"--verifier-column {column}: the log has no such reward",
            wanted=", ".join(columns),
            fix=did_you_mean(column, columns),
        )
    if column is not None:
        values = _values(columns[column], log.data_N)
        sentence = f"right or wrong is '{column}', as --verifier-column says"
        return Verdicts(
            read_verdicts(columns[column], values), column, sentence, is_binary=len(values) < 3
        )
    found = _verdict_columns(columns, log.data_N)
    if not found:
        return _partial(log)
    name, values = found[0], _values(columns[found[0]], log.data_N)
    if len(found) > 1:
        sentence = (
            f"several rewards have two values, and '{name}' is taken for right or wrong "
            "(--verifier-column names another)"
        )
    elif len(values) == 1:
        sentence = f"right or wrong is '{name}', by its name: every value of it is {values[0]:g}"
    else:
        sentence = f"right or wrong is '{name}', the column of two values"
    return Verdicts(read_verdicts(columns[name], values), name, sentence, is_binary=True)


def _verdict_columns(columns: Mapping[str, Floats], data_N: Bools) -> list[str]:
    """Columns that may say right from wrong, the likeliest first.

    A reward by the name of a verdict comes before the total: of a run whose answers are all wrong
    the total is the format reward, and has two values too.
    """
    values = {name: _values(value_N, data_N) for name, value_N in columns.items()}
    flat = [name for name, own in values.items() if own in ([0.0], [1.0])]
    two = [name for name, own in values.items() if len(own) == 2]
    named = [name for name in columns if name in (*two, *flat) and is_named_as_verdict(name)]
    if named or "score" in two:
        return named or ["score"]
    return sorted(two, key=pays_by_name)


def pays_by_name(name: str) -> bool:
    """Whether a reward's name says that it pays for form."""
    return any(word in name.lower() for word in OF_FORM)


def is_named_as_verdict(name: str) -> bool:
    """Whether a reward's name says that it tells right from wrong."""
    return any(word in name.lower() for word in _NAMES) and not pays_by_name(name)


def _partial(log: RunLog) -> Verdicts:
    values = _values(log.score_N, log.data_N)
    only = f"every score is {values[0]:g}" if len(values) == 1 else "no reward has two values"
    sentence = (
        f"{only}: a score of 0 is taken for wrong and one of 1 for right "
        "(--verifier-column names another column)"
    )
    return Verdicts(log.score_N, "score", sentence, is_binary=False)


def _values(value_N: Floats, data_N: Bools) -> list[float]:
    """The different values, up to three."""
    kept = value_N[data_N & ~np.isnan(value_N)]
    return [float(value) for value in np.unique(kept)[:3]]


def read_verdicts(value_N: Floats, values: Sequence[float]) -> Floats:
    """As `ops.groups.read_verdicts`: of two values the larger is right; of others 0 and 1 are.

    Args:
        value_N: [N], nan missing.
        values: the different ones that the column has, in order, up to three of them.
    """
    if len(values) != 2:
        return value_N
    return np.where(np.isnan(value_N), np.nan, (value_N == values[-1]).astype(np.float64))


@dataclass(frozen=True, eq=False)
class GroupTable:
    """The groups that are data, in order of appearance, [P] each.

    Attributes:
        group_P: the group's number in the log.
        step_P, prompt_P: where it stands and what it was asked.
        size_P: rows; `known_P` of them have a verdict, `right_P` are 1.
        class_P: place in `CLASSES`.
        spread_P: whether two totals differ.
        tokens_P, chars_P: of all its answers; tokens are nan where one is unknown.
        row_N: the group's place here for each row of the log, -1 for rows that are no data.
    """

    group_P: Ints
    step_P: Ints
    prompt_P: Ints
    size_P: Ints
    known_P: Ints
    right_P: Ints
    class_P: Ints
    spread_P: Bools
    tokens_P: Floats
    chars_P: Floats
    row_N: Ints

    def __len__(self) -> int:
        return len(self.group_P)

    def share(self, *classes: int) -> Floats:
        """[P] 1 for groups of these classes, 0 for others, nan without a verdict."""
        member_P = np.isin(self.class_P, classes).astype(np.float64)
        return np.where(self.class_P == MISSING, np.nan, member_P)

    @cached_property
    def usual_size(self) -> int:
        """The size that most groups have; 0 without groups."""
        sizes, counts = np.unique(self.size_P, return_counts=True)
        return int(sizes[counts.argmax()]) if len(sizes) else 0


def group_table(log: RunLog, verdict_N: Floats) -> GroupTable:
    """The groups of the rows that are data."""
    rows = np.flatnonzero(log.data_N)
    groups, first, number = np.unique(log.group_N[rows], return_index=True, return_inverse=True)
    count = len(groups)
    row_N = np.full(len(log), -1, dtype=np.int64)
    row_N[rows] = number
    classes = class_groups(verdict_N[rows], log.score_N[rows], number, count)
    return GroupTable(
        group_P=groups,
        step_P=log.step_N[rows][first],
        prompt_P=log.prompt_N[rows][first],
        size_P=np.bincount(number, minlength=count),
        tokens_P=_total(log.tokens_N[rows], number, count),
        chars_P=_total(log.chars_N[rows], number, count),
        row_N=row_N,
        **classes._asdict(),
    )


class GroupClasses(NamedTuple):
    """The classes of groups and what they follow from, [P] each; see `GroupTable`."""

    known_P: Ints
    right_P: Ints
    spread_P: Bools
    class_P: Ints


def class_groups(verdict_N: Floats, score_N: Floats, number_N: Ints, count: int) -> GroupClasses:
    """The classes of groups.

    Args:
        verdict_N: [N] 1 right, 0 wrong, nan missing.
        score_N: [N] the totals.
        number_N: [N] each row's group, from 0.
        count: P, how many groups there are.
    """
    known_P = _total(~np.isnan(verdict_N), number_N, count).astype(np.int64)
    right_P = _total(verdict_N == 1, number_N, count).astype(np.int64)
    wrong_P = _total(verdict_N == 0, number_N, count).astype(np.int64)
    spread_P = _spread(score_N, number_N, count)
    class_P = np.where(spread_P, MIXED, TIED)
    class_P[(right_P == known_P) & (known_P > 0)] = ALL_RIGHT
    class_P[(wrong_P == known_P) & (known_P > 0)] = ALL_WRONG
    class_P[known_P == 0] = MISSING
    return GroupClasses(known_P, right_P, spread_P, class_P)


def _total(values: NDArray[np.generic], number: Ints, count: int) -> Floats:
    """The sum of values in each group."""
    return np.bincount(number, weights=values, minlength=count).astype(np.float64)


def _spread(value: Floats, number: Ints, count: int) -> Bools:
    """Whether two known values of a group differ."""
    known = ~np.isnan(value)
    high, low = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(high, number[known], value[known])
    np.minimum.at(low, number[known], value[known])
    return np.asarray(high > low)
