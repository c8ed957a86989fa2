"""What the runs of a study cost, and which arms cost other than was due."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.study.analyse.run_times import seconds_of_step
from rekindle.study.plan.study_file import Budget
from rekindle.study.schema import Excerpt, MeanSpent, Spent
from rekindle.study.store.layout import SPENT, counted, read_stored

Means = Mapping[str, MeanSpent]  # by arm


class _StageCost(Excerpt):
    """What a stage.json says of the stage's cost."""

    generated: float
    seconds: float


def spent_by(place: Path) -> Spent:
    """The cost of a finished run, all its stages together; evaluation is not counted.

    Raises:
        DataError: a cost is no number; the error names its file and key.
    """
    if (place / SPENT).exists():
        return read_stored(place / SPENT, Spent)
    log = place / "metrics.jsonl"
    rows = [row for _, row in read_jsonl(log)]

    def total(name: str, otherwise: float = 0.0) -> float:
        return float(sum(_number(row, name, log, otherwise) for row in rows))

    def of_step(row: Mapping[str, object]) -> float:
        return seconds_of_step(lambda part: _number(row, f"time/{part}", log, 0.0))

    stages = [read_stored(path, _StageCost) for path in sorted(place.glob("stages/*/stage.json"))]
    return Spent(
        generated=total("tokens/generated") + sum(stage.generated for stage in stages),
        trained=total("tokens/trained"),
        updates=total("updates", 1.0),
        seconds=sum(map(of_step, rows)) + sum(stage.seconds for stage in stages),
    )


def unequal_budgets(budget: Budget, spent: Means, *, baseline: str) -> dict[str, float]:
    """Arms whose mean cost differs in the enforced unit from what is due: arm -> ratio to it.

    What is due is `at_most`; where it is not given, what the baseline spent, or, where that is
    nothing, the least that an arm did. An arm of which all costs are 0 (an evaluation of the start)
    is not listed.
    """
    known = {
        arm: value
        for arm, row in spent.items()
        if (value := row.of(budget.unit)) is not None and not row.idle
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
    a, b = mine.of(budget.unit), theirs.of(budget.unit)
    if a is None or b is None or mine.idle or theirs.idle:
        return ""
    if abs(a - b) <= budget.tolerance * b:
        return ""
    return f"unequal budget: {arm} spent {a:,.0f} {counted(budget.unit)}, {baseline} {b:,.0f}"


def _number(row: Mapping[str, object], name: str, path: Path, otherwise: float) -> float:
    stored = row.get(name)
    value = otherwise if stored is None else stored
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: '{name}' cannot be used", got=repr(value), wanted="a number")
    return float(value)
