"""What the runs of a study cost, and which arms cost other than was due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.study.analyse.run_times import IN_STEP, without_evaluation
from rekindle.study.plan.study_file import Budget
from rekindle.study.store.layout import SPENT, counted, read_object

Means = Mapping[str, Mapping[str, float | None]]  # arm -> name of a cost -> its mean over runs
UNITS = ("generated", "trained", "updates")


@dataclass(frozen=True)
class Spent:
    """What a run cost: tokens sampled and tokens in the loss, optimizer updates, seconds."""

    generated: float
    trained: float
    updates: float
    seconds: float


def spent_by(place: Path) -> Spent:
    """The cost of a finished run, all its stages together; evaluation is not counted.

    Raises:
        DataError: a cost that is no number; file and name are told.
    """
    kept = place / SPENT
    if kept.exists():
        stored = read_object(kept)
        return Spent(**{cost.name: _number(stored, cost.name, kept) for cost in fields(Spent)})
    log = place / "metrics.jsonl"
    rows = [row for _, row in read_jsonl(log)]

    def total(name: str, otherwise: float = 0.0) -> float:
        return float(sum(_number(row, name, log, otherwise) for row in rows))

    def in_stages(name: str) -> float:
        paths = sorted(place.glob("stages/*/stage.json"))
        return sum(_number(read_object(path), name, path) for path in paths)

    return Spent(
        generated=total("tokens/generated") + in_stages("generated"),
        trained=total("tokens/trained"),
        updates=total("updates", 1.0),
        seconds=sum(_of_step(row, log) for row in rows) + in_stages("seconds"),
    )


def _of_step(row: Mapping[str, Any], log: Path) -> float:
    """The seconds of a row's step, its evaluation not counted."""

    def seconds(part: str) -> float:
        return _number(row, f"time/{part}", log, 0.0)

    inside = sum(seconds(part) for part in IN_STEP)
    return without_evaluation(seconds("step"), inside=inside, evaluation=seconds("eval"))


def unequal_budgets(budget: Budget, spent: Means, *, baseline: str) -> dict[str, float]:
    """Arms whose mean cost differs in the enforced unit from what is due: arm -> ratio to it.

    What is due is `at_most`; where it is not given, what the baseline spent, or, where that is
    nothing, the least that an arm did. An arm of which all costs are 0 (an evaluation of the start)
    is not listed.
    """
    known = {
        arm: value
        for arm, row in spent.items()
        if (value := row[budget.unit]) is not None and not _idle(row)
    }
    some = [value for value in known.values() if value]
    if not some:
        return {}
    due = budget.at_most or known.get(baseline) or min(some)
    ratios = {arm: value / due for arm, value in known.items()}
    return {arm: ratio for arm, ratio in ratios.items() if abs(ratio - 1) > budget.tolerance}


def unequal_pair(budget: Budget, spent: Means, *, arm: str, baseline: str) -> str:
    """That two arms spent the enforced unit unequally, in words; empty where they did not.

    Nothing is said of an arm that spent nothing at all, for it is the start.
    """
    mine, theirs = spent[arm], spent[baseline]
    a, b = mine[budget.unit], theirs[budget.unit]
    if a is None or b is None or _idle(mine) or _idle(theirs):
        return ""
    if abs(a - b) <= budget.tolerance * b:
        return ""
    return f"unequal budget: {arm} spent {a:,.0f} {counted(budget.unit)}, {baseline} {b:,.0f}"


def _idle(row: Mapping[str, float | None]) -> bool:
    return not any(row.get(unit) for unit in UNITS)


def _number(row: Mapping[str, Any], name: str, path: Path, otherwise: float | None = None) -> float:
    value = row.get(name)
    value = otherwise if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: '{name}' cannot be used", got=repr(value), wanted="a number")
    return float(value)
