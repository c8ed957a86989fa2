"""What a run directory says: rounds of self-rewarding, shares of groups, SFT's loss and its curve.

Over the steps of a log: means of the first tenth and the last. A held-out curve is
`eval/step-*.json`: the last evaluation is compared, problem by problem, with the one nearest to
half of its steps.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from rekindle.errors import DataError
from rekindle.evals.compare import LOWER_IS_BETTER, compare
from rekindle.evals.intervals import cluster
from rekindle.evals.reading import Eval, read_eval
from rekindle.files import read_jsonl
from rekindle.loops.rollouts import known
from rekindle.methods.self_rewarding.rounds import ROUNDS
from rekindle.ops.groups import SCORED_CLASSES
from rekindle.signals.findings import Finding, Health, Measurement, point
from rekindle.signals.run_rounds import ONE, JudgedRound
from rekindle.signals.texts import refusal
from rekindle.tasks.sources import is_data

PART = 10  # a tenth of the steps counts as the first ones, a tenth as the last
FEW = 8  # steps; with fewer their mean has no interval
LEVEL_WITHIN = 0.02  # a curve is flat when the interval of its change lies within
CURVE = ("chain_prob", "nll", "pass@1", "greedy")  # the first that was measured is judged
_SFT = ("loss", "tokens/above_099", "mass/non_target", "entropy")
_GROUPS = (*SCORED_CLASSES, "no_signal")  # older runs know neither tied nor no_signal


class RunTask(NamedTuple):
    """The task of a run, as its config.yaml names it."""

    name: str
    path: object = None
    levels: object = None

    @classmethod
    def of(cls, name: str, path: object, levels: object) -> RunTask:
        """Data by its path alone is the same task as by `jsonl` and the path."""
        alone = path is None and is_data(name)
        return cls("jsonl", name, levels) if alone else cls(name, path, levels)


class Baseline(NamedTuple):
    """What a run says.

    `groups`: rows on the shares of groups in training; `sft`: of an SFT run, by
    its held-out curve (still improving, flat, falling, not settled); `group_size`: answers
    of a group in training; `task`, `model`: what config.yaml says it was trained on, None where
    that says nothing.
    """

    rounds: list[JudgedRound]
    groups: list[Measurement]
    sft: Finding | None = None
    group_size: int | None = None
    task: RunTask | None = None
    model: str | None = None


def read_baseline(directory: Path) -> Baseline:
    """Read a run.

    Raises:
        DataError: it is not a run, says nothing of a signal, or a number in it is none; file and
            line are named.
    """
    log, round_log = directory / "metrics.jsonl", directory / "stages" / ROUNDS
    if not log.exists():
        got = "no metrics.jsonl in it" if directory.is_dir() else "no directory"
        raise refusal(DataError, "not-a-run", got, run=directory)
    steps = read_jsonl(log)
    rounds = _rounds(round_log) if round_log.exists() else []
    groups = _first_and_last(log, steps, [f"groups/{name}" for name in _GROUPS])
    groups = [row._replace(name=row.name.replace("run/groups/", "run/")) for row in groups]
    config = _config(directory)
    curve = None if groups or rounds else _curve(directory, log, steps)
    if not rounds and not groups and curve is None:
        keys = sorted({key for _, row in steps for key in row})
        raise refusal(DataError, "run-without-signal", keys[:20], run=directory)
    task, model = (config.get(name) for name in ("task", "model"))
    named = None
    if isinstance(task, Mapping) and "name" in task:
        named = RunTask.of(task["name"], task.get("path"), task.get("levels"))
    name = str(model["name"]) if isinstance(model, Mapping) and "name" in model else None
    return Baseline(rounds, groups, curve, _group_size(config), named, name)


def check_alike(baseline: Baseline, directory: Path, *, task: RunTask | None, model: str) -> None:
    """A run of another task says nothing of this one; a run of another model is a warning.

    Args:
        task: what is diagnosed; None: the run's own.
        model: its name or directory.

    Raises:
        DataError: the run is of another task.
    """
    theirs = baseline.task
    unlike = []
    if theirs is not None and task is not None:
        if theirs.name != task.name:
            got = f"task '{theirs.name}'"
            raise refusal(DataError, "run-of-another-task", got, run=directory, task=task.name)
        pairs = (("path", theirs.path, task.path), ("levels", theirs.levels, task.levels))
        unlike = [
            f"{key} {other} (here {ours})"
            for key, other, ours in pairs
            if _as_list(other) != _as_list(ours)
        ]
    if baseline.model is not None and baseline.model != model and not _inside(model, directory):
        unlike.append(f"model {baseline.model} (here {model})")
    if unlike:
        warnings.warn(f"run {directory} is of {', '.join(unlike)}", stacklevel=2)


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value


def _inside(model: str, directory: Path) -> bool:
    """Whether a model is one that the run has made."""
    return Path(model).exists() and Path(model).resolve().is_relative_to(directory.resolve())


def _number(row: Mapping[str, object], key: str, where: str) -> float | None:
    """A finite number of a run's file; None where it is null or not there."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refusal(DataError, "not-a-number", value, where=where, key=key)
    return float(value)


# --- rounds of self-rewarding


def _rounds(log: Path) -> list[JudgedRound]:
    rounds = []
    for line, row in read_jsonl(log):
        keys = ("pairs/gap", "pairs/similarity", "judge/auc", "judge/right")
        gap, similarity, auc, right = (_number(row, key, f"{log}:{line}") for key in keys)
        pairs, judged = (
            sorted(log.parent.glob(f"*-{stage}-{row.get('round')}/rows.jsonl"))
            for stage in ("pairs", "judged")
        )
        gaps = _gaps(pairs[0]) if pairs else []
        prompts = len({str(one.get("id")) for _, one in read_jsonl(judged[0])}) if judged else None
        rounds.append(JudgedRound(gap, similarity, auc, right, gaps, prompts))
    return rounds


def _gaps(path: Path) -> list[float]:
    """Chosen minus rejected score of each pair of a round: one a prompt."""
    gaps = []
    for line, row in read_jsonl(path):
        sides = [_number(row, f"{side}_score", f"{path}:{line}") for side in ("chosen", "rejected")]
        chosen, rejected = sides
        if chosen is not None and rejected is not None:
            gaps.append(chosen - rejected)
    return gaps


# --- config.yaml


def _config(directory: Path) -> Mapping[str, object]:
    path = directory / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise refusal(DataError, "unreadable", str(error), path=path) from error
    return config if isinstance(config, dict) else {}


def _group_size(config: Mapping[str, object]) -> int | None:
    """Of the method's section: `grpo.group_size` and the like."""
    sizes = [part.get("group_size") for part in config.values() if isinstance(part, Mapping)]
    return next((size for size in sizes if isinstance(size, int) and size > 1), None)


# --- numbers over the steps, and SFT's held-out curve


def _first_and_last(
    log: Path, steps: Sequence[tuple[int, Mapping[str, object]]], keys: Sequence[str]
) -> list[Measurement]:
    """Means over the first tenth of the steps and the last; an interval where each has 8 steps."""
    rows = []
    for key in keys:
        values = [_number(row, key, f"{log}:{line}") for line, row in steps]
        known = [value for value in values if value is not None]
        if known:
            part = max(1, len(known) // PART)
            for when, few in (("first", known[:part]), ("last", known[-part:])):
                meaning = f"in training, {when} {part} steps"
                name = f"run/{key}_{when}"
                if part < FEW:
                    rows.append(point(name, sum(few) / part, part, f"{meaning}, {ONE}"))
                else:
                    top = math.inf if key in _SFT else 1.0
                    interval = cluster(np.array(few), bounds=(0.0, top))
                    rows.append(Measurement(name, *interval, meaning))
    return rows


def _curve(
    directory: Path, log: Path, steps: Sequence[tuple[int, Mapping[str, object]]]
) -> Finding | None:
    """What an SFT run says of its loss and its held-out curve; None: it has no loss."""
    rows = _first_and_last(log, steps, _SFT)
    if not any(row.name == "run/loss_first" for row in rows):
        return None
    evals = [_evaluation(path) for path in (directory / "eval").glob("step-*.json")]
    evals.sort(key=itemgetter("step"))
    cells = [one["metrics"] for one in evals]
    metrics = [
        m for m in CURVE if cells and all(m in c and c[m]["value"] is not None for c in cells)
    ]
    for metric in metrics:
        rows += [_cell(result, metric) for result in evals]
    state, shown = "not settled", "there is no held-out curve (two evaluations at least)"
    if len(evals) > 1 and metrics:
        state, shown = _held_out(evals, metrics[0])
    trained = f"the loss went from {rows[0].value:.3g} to {rows[1].value:.3g}"
    health: Health = "well" if state == "still improving" else "between"
    return Finding("sft", state, health, f"The run: {trained}; {shown}.", rows)


def _held_out(evals: Sequence[Eval], metric: str) -> tuple[str, str]:
    """The state of a held-out curve, and what it rests on."""
    last = evals[-1]
    middle = min(evals[:-1], key=lambda result: abs(result["step"] - last["step"] / 2))
    try:
        found = compare(middle, last, metric=metric)
    except DataError as error:
        return "not settled", f"its evaluations: {error.what}"
    low, high = found.ci_low, found.ci_high
    if metric in LOWER_IS_BETTER:
        low, high = -high, -low
    if low > 0 or high < 0:
        state = "still improving" if low > 0 else "falling"
    else:
        state = "flat" if low > -LEVEL_WITHIN and high < LEVEL_WITHIN else "not settled"
    change = f"{metric} {found.value:+.3g} [{found.ci_low:.3g}, {found.ci_high:.3g}]"
    steps = f"from step {middle['step']} to {last['step']}"
    return state, f"held out it is {state} {steps} ({change})"


def _evaluation(path: Path) -> Eval:
    """An evaluation whose cells are numbers with their bounds."""
    result = read_eval(path)
    if _number(result, "step", str(path)) is None:
        wanted = "'step', a number"
        raise refusal(DataError, "not-an-evaluation", None, path=path, wanted=wanted)
    cells: Mapping[str, object] = result["metrics"]
    for name, cell in cells.items():
        keys = "value", "ci_low", "ci_high", "n"
        if not isinstance(cell, dict) or any(key not in cell for key in keys):
            wanted = f"{', '.join(keys)} of '{name}'"
            raise refusal(DataError, "not-an-evaluation", {name: cell}, path=path, wanted=wanted)
        for key in keys:
            _number(cell, key, f"{path}, {name}")
    return result


def _cell(result: Eval, metric: str) -> Measurement:
    cell = result["metrics"][metric]
    value, low, high = known(cell["value"]), known(cell["ci_low"]), known(cell["ci_high"])
    name, meaning = f"run/{metric}@{result['step']}", f"held out, after step {result['step']}"
    return Measurement(name, value, low, high, cell["n"], meaning)
