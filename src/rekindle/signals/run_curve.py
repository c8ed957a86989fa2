"""What a run's logs say over its steps: first and last tenth, and SFT's held-out curve.

A held-out curve is `eval/step-*.json`: the last evaluation is compared, problem by problem, with
the one nearest to half of its steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rekindle.errors import DataError
from rekindle.evals.compare import LOWER_IS_BETTER, Difference, compare
from rekindle.evals.intervals import cluster
from rekindle.evals.reading import Eval, read_eval
from rekindle.signals.round_gap import ONE
from rekindle.signals.table import Row, point, row_of

PART = 10  # a tenth of the steps counts as the first ones, a tenth as the last
FEW = 8  # steps; with fewer their mean has no interval
LEVEL_WITHIN = 0.02  # a curve is flat when the interval of its change lies within
CURVE = ("chain_prob", "nll", "pass@1", "greedy")  # the first that was measured is judged
_SFT = ("loss", "tokens/above_099", "mass/non_target", "entropy")


class Curve(NamedTuple):
    """Rows of `sft`, and what they say of the held-out curve in plain words."""

    rows: list[Row]
    state: str  # still improving | flat | falling | not settled
    words: str


def number(row: Mapping[str, object], key: str, where: str) -> float | None:
    """A finite number of a run's file; None where it is null or not there.

    Raises:
        DataError: it is something else.
    """
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(
            f"{where}: '{key}' is not a number",
            got=value,
            wanted="a number or null, as `rekindle train` writes it",
            why="the run's file is damaged, or was changed",
            fix="restore the file, or leave --run out",
        )
    return float(value)


def firsts_and_lasts(
    log: Path, steps: list[tuple[int, dict[str, Any]]], keys: Sequence[str]
) -> list[Row]:
    """Means over the first tenth of the steps and the last; an interval where each has 8 steps."""
    rows = []
    for key in keys:
        values = [number(row, key, f"{log}:{line}") for line, row in steps]
        known = [value for value in values if value is not None]
        if known:
            part = max(1, len(known) // PART)
            for when, few in (("first", known[:part]), ("last", known[-part:])):
                words = f"in training, {when} {part} steps"
                name = f"run/{key}_{when}"
                if part < FEW:
                    rows.append(point(name, sum(few) / part, part, f"{words}, {ONE}"))
                else:
                    top = math.inf if key in _SFT else 1.0
                    found = cluster(np.array(few), bounds=(0.0, top))
                    rows.append(row_of(name, found, words))
    return rows


def read_curve(directory: Path, log: Path, steps: list[tuple[int, dict[str, Any]]]) -> Curve | None:
    """What an SFT run says of its loss and its held-out curve; None: it has no loss.

    Raises:
        DataError: an evaluation cannot be read; the file is named.
    """
    rows = firsts_and_lasts(log, steps, _SFT)
    if not any(row.name == "run/loss_first" for row in rows):
        return None
    evals = _evaluations(directory / "eval")
    metrics = [m for m in CURVE if evals and all(_known(e, m) for e in evals)]
    for metric in metrics:
        rows += [_cell(result, metric) for result in evals]
    trained = f"the loss went from {rows[0].value:.3g} to {rows[1].value:.3g}"
    if len(evals) < 2 or not metrics:
        words = f"{trained}; there is no held-out curve (two evaluations at least)."
        return Curve(rows, "not settled", f"The run: {words}")
    last = evals[-1]
    middle = min(evals[:-1], key=lambda result: abs(result["step"] - last["step"] / 2))
    try:
        found = compare(middle, last, metric=metrics[0])
    except DataError as error:
        return Curve(rows, "not settled", f"The run: {trained}; its evaluations: {error.what}.")
    state = _direction(found, metrics[0])
    change = f"{metrics[0]} {found.value:+.3g} [{found.ci_low:.3g}, {found.ci_high:.3g}]"
    words = (
        f"The run: {trained}; held out it is {state} from step {middle['step']} to "
        f"{last['step']} ({change})."
    )
    return Curve(rows, state, words)


def _direction(found: Difference, metric: str) -> str:
    low, high = found.ci_low, found.ci_high
    if metric in LOWER_IS_BETTER:
        low, high = -high, -low
    if low > 0:
        return "still improving"
    if high < 0:
        return "falling"
    return "flat" if low > -LEVEL_WITHIN and high < LEVEL_WITHIN else "not settled"


def _evaluations(directory: Path) -> list[Eval]:
    """The evaluations of a run, by step."""
    found = [_evaluation(path) for path in directory.glob("step-*.json")]
    return sorted(found, key=lambda result: result["step"])


def _evaluation(path: Path) -> Eval:
    """An evaluation whose cells are numbers with their bounds.

    Raises:
        DataError: it is something else, or was written by another version.
    """
    found = read_eval(path)
    if number(found, "step", str(path)) is None:
        raise _not_ours(path, found.get("step"), "'step', a number")
    cells: Mapping[str, object] = found["metrics"]
    for name, cell in cells.items():
        missing = "value", "ci_low", "ci_high", "n"
        if not isinstance(cell, dict) or any(key not in cell for key in missing):
            raise _not_ours(path, {name: cell}, f"{', '.join(missing)} of '{name}'")
        for key in missing:
            number(cell, key, f"{path}, {name}")
    return found


def _not_ours(path: Path, got: object, wanted: str) -> DataError:
    return DataError(
        f"{path} is no evaluation of a run",
        got=got,
        wanted=wanted,
        why="the run's file is damaged, or another version wrote it",
        fix="restore the file, or leave --run out",
    )


def _known(result: Eval, metric: str) -> bool:
    cell = result["metrics"].get(metric)
    return cell is not None and cell["value"] is not None


def _cell(result: Eval, metric: str) -> Row:
    cell = result["metrics"][metric]
    numbers = (cell["value"], cell["ci_low"], cell["ci_high"])
    value, low, high = (math.nan if number is None else number for number in numbers)
    words = f"held out, after step {result['step']}"
    return Row(f"run/{metric}@{result['step']}", value, low, high, cell["n"], words)
