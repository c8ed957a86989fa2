"""What a run directory says of its signals: the rounds of self-rewarding, the shares of groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.methods.rounds import ROUNDS
from rekindle.signals.table import Row, point

PART = 10  # a tenth of the steps counts as the first ones, a tenth as the last


class Baseline(NamedTuple):
    """`rounds` of stages/rounds.jsonl; `groups`: rows on the shares of groups in training."""

    rounds: list[dict[str, Any]]
    groups: list[Row]


def read_baseline(directory: Path) -> Baseline:
    """Read a run.

    Raises:
        DataError: it is not a run, or has neither rounds nor groups.
    """
    log, told = directory / "metrics.jsonl", directory / "stages" / ROUNDS
    if not log.exists():
        raise DataError(
            f"{directory} is not a run",
            wanted="a directory that `rekindle train` has made, with metrics.jsonl in it",
        )
    rounds = [row for _, row in read_jsonl(told)] if told.exists() else []
    groups = _groups([row for _, row in read_jsonl(log)])
    if not rounds and not groups:
        raise DataError(
            f"run {directory} says nothing of groups or pairs",
            wanted="a run of a group-relative or self-rewarding method",
            fix="leave --run out",
        )
    return Baseline(rounds, groups)


def _groups(steps: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for name in ("all_wrong", "mixed", "all_right"):
        known = [row[key] for row in steps if row.get(key := f"groups/{name}") is not None]
        if known:
            part = max(1, len(known) // PART)
            for when, few in (("first", known[:part]), ("last", known[-part:])):
                words = f"share in training, {when} {part} steps"
                rows.append(point(f"run/{name}_{when}", sum(few) / part, part, words))
    return rows
