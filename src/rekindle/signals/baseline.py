"""What a run directory says of its signals: rounds of self-rewarding, shares of groups, SFT's loss.

A held-out curve is `eval/step-*.json`: the last evaluation is compared, problem by problem, with
the one nearest to half of its steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rekindle.errors import DataError
from rekindle.evals.compare import LOWER_IS_BETTER, Difference, compare
from rekindle.files import read_json, read_jsonl
from rekindle.methods.rounds import ROUNDS
from rekindle.signals.table import Row, point

PART = 10  # a tenth of the steps counts as the first ones, a tenth as the last
LEVEL_WITHIN = 0.02  # a curve is flat when the interval of its change lies within
CURVE = ("chain_prob", "nll", "pass@1", "greedy")  # the first that was measured is judged
_NUMBERS = ("pairs/gap", "pairs/similarity", "judge/auc", "judge/right")
_GROUPS = ("all_wrong", "mixed", "all_right")
_SFT = ("loss", "tokens/above_099", "mass/non_target", "entropy")


class Curve(NamedTuple):
    """Rows of `sft`, and what they say of the held-out curve in plain words."""

    rows: list[Row]
    state: str  # still improving | flat | falling | not settled
    words: str


class Baseline(NamedTuple):
    """`rounds` of stages/rounds.jsonl, each with its pairs' gaps in `gaps` and the number of its
    judged prompts in `prompts` where they were kept;
    `groups`: rows on the shares of groups in training; `sft`: of an SFT run; `group_size`: answers
    of a group in training."""

    rounds: list[dict[str, Any]]
    groups: list[Row]
    sft: Curve | None = None
    group_size: int | None = None


def read_baseline(directory: Path) -> Baseline:
    """Read a run.

    Raises:
        DataError: it is not a run, says nothing of a signal, or a number in it is none; file and
            line are named.
    """
    log, told = directory / "metrics.jsonl", directory / "stages" / ROUNDS
    if not log.exists():
        raise DataError(
            f"{directory} is not a run",
            got="no metrics.jsonl in it" if directory.is_dir() else "no directory",
            wanted="a directory that `rekindle train` has made, with metrics.jsonl in it",
            fix="check the path, or leave --run out",
        )
    steps = read_jsonl(log)
    rounds = _rounds(directory, told) if told.exists() else []
    groups = _firsts_and_lasts(log, steps, [f"groups/{name}" for name in _GROUPS])
    groups = [row._replace(name=row.name.replace("run/groups/", "run/")) for row in groups]
    config = _config(directory)
    curve = None if groups or rounds else _curve(directory, log, steps)
    if not rounds and not groups and curve is None:
        raise DataError(
            f"run {directory} says nothing of a signal",
            got=sorted({key for _, row in steps for key in row})[:20],
            wanted="a run of SFT, or of a group-relative or self-rewarding method",
            fix="leave --run out",
        )
    return Baseline(rounds, groups, curve, _group_size(config))


def number(row: Mapping[str, Any], key: str, where: str) -> float | None:
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


def _rounds(directory: Path, told: Path) -> list[dict[str, Any]]:
    rounds = []
    for line, row in read_jsonl(told):
        kept: dict[str, Any] = {key: number(row, key, f"{told}:{line}") for key in _NUMBERS}
        pairs, judged = (
            sorted(told.parent.glob(f"*-{stage}-{row.get('round')}/rows.jsonl"))
            for stage in ("pairs", "judged")
        )
        if pairs:
            kept["gaps"] = _gaps(pairs[0])
        if judged:
            kept["prompts"] = len({str(row.get("id")) for _, row in read_jsonl(judged[0])})
        rounds.append(kept)
    return rounds


def _gaps(path: Path) -> list[float]:
    """Chosen minus rejected score of each pair of a round: one a prompt."""
    found = []
    for line, row in read_jsonl(path):
        sides = [number(row, f"{side}_score", f"{path}:{line}") for side in ("chosen", "rejected")]
        chosen, rejected = sides
        if chosen is not None and rejected is not None:
            found.append(chosen - rejected)
    return found


def _firsts_and_lasts(log: Path, steps: list[tuple[int, dict[str, Any]]], keys: Any) -> list[Row]:
    rows = []
    for key in keys:
        values = [number(row, key, f"{log}:{line}") for line, row in steps]
        known = [value for value in values if value is not None]
        if known:
            part = max(1, len(known) // PART)
            for when, few in (("first", known[:part]), ("last", known[-part:])):
                words = f"in training, {when} {part} steps"
                rows.append(point(f"run/{key}_{when}", sum(few) / part, part, words))
    return rows


def _curve(directory: Path, log: Path, steps: list[tuple[int, dict[str, Any]]]) -> Curve | None:
    rows = _firsts_and_lasts(log, steps, _SFT)
    if not any(row.name == "run/loss_first" for row in rows):
        return None
    evals = [_evaluation(path) for path in sorted((directory / "eval").glob("step-*.json"))]
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


def _evaluation(path: Path) -> dict[str, Any]:
    found = read_json(path)
    needed = ("step", "metrics", "outcomes", "problems", "task", "split")
    if not isinstance(found, dict) or any(key not in found for key in needed):
        raise DataError(
            f"{path} is no evaluation of a run",
            got=sorted(found) if isinstance(found, dict) else found,
            wanted=", ".join(needed),
            fix="restore the file, or leave --run out",
        )
    number(found, "step", str(path))
    return found


def _known(result: Mapping[str, Any], metric: str) -> bool:
    cell = result["metrics"].get(metric)
    return cell is not None and cell.get("value") is not None


def _cell(result: Mapping[str, Any], metric: str) -> Row:
    cell = result["metrics"][metric]
    low, high = (math.nan if cell[k] is None else cell[k] for k in ("ci_low", "ci_high"))
    words = f"held out, after step {result['step']}"
    return Row(f"run/{metric}@{result['step']}", cell["value"], low, high, cell["n"], words)


def _config(directory: Path) -> dict[str, Any]:
    place = directory / "config.yaml"
    if not place.is_file():
        return {}
    try:
        found = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"{place} cannot be read", got=str(error), fix="restore it, or leave --run out"
        ) from error
    return found if isinstance(found, dict) else {}


def _group_size(config: Mapping[str, Any]) -> int | None:
    """Of the method's section: `grpo.group_size` and the like."""
    sizes = [part.get("group_size") for part in config.values() if isinstance(part, Mapping)]
    return next((size for size in sizes if isinstance(size, int) and size > 1), None)
