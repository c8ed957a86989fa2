"""Several runs of one recipe as one: means at each step that all of them reached, with spread.

The interval is a 95 % t-interval over the runs: how far trainings differ. A study's verdict does
not rest on it, but on the paired differences of study.json.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from rekindle.report.load import Evaluation, Metric, RunData
from rekindle.report.samples import number
from rekindle.report.stages import Stage

TEXT_RUNS = 1  # of each arm, whose rollouts and pairs can be browsed


def averaged(name: str, runs: Sequence[RunData]) -> RunData:
    """One run that stands for several of the same recipe."""
    first = runs[0]
    return replace(
        first,
        name=name,
        rows=_mean_rows([run.rows for run in runs if run.rows]),
        rounds=_mean_rows([run.rounds for run in runs if run.rounds], over="round"),
        evaluations=_mean_evaluations([run.evaluations for run in runs if run.evaluations]),
        samples=[sample for run in runs[:TEXT_RUNS] for sample in run.samples],
        pairs=[pair for run in runs[:TEXT_RUNS] for pair in run.pairs],
        stages=_mean_stages([run.stages for run in runs if run.stages]),
        notes=[f"{run.name}: {note}" for run in runs for note in run.notes],
        members=list(runs),
    )


def t_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % t-interval of the mean over runs; none for a single run."""
    n = len(values)
    if n < 2:
        return None, None
    half = _quantile(n) * stdev(values) / math.sqrt(n)
    mean = fmean(values)
    return mean - half, mean + half


_QUANTILES: dict[int, float] = {}


def _quantile(n: int) -> float:
    if n not in _QUANTILES:  # scipy's takes 50 microseconds, for each point of each curve
        _QUANTILES[n] = float(stats.t.ppf(0.975, n - 1))
    return _QUANTILES[n]


def _mean_rows(
    tables: Sequence[Sequence[Mapping[str, Any]]], *, over: str = "step"
) -> list[dict[str, Any]]:
    if not tables:
        return []
    steps = set.intersection(*({row[over] for row in rows} for rows in tables))
    by_step: dict[int, list[Mapping[str, Any]]] = {step: [] for step in sorted(steps)}
    for rows in tables:
        for row in rows:
            if row[over] in by_step:
                by_step[row[over]].append(row)
    out = []
    for step, rows in by_step.items():
        keys = dict.fromkeys(key for row in rows for key in row if key != over)
        means = {key: _mean(number(row.get(key)) for row in rows) for key in keys}
        out.append({over: step, **means})
    return out


def _mean_evaluations(tables: Sequence[Sequence[Evaluation]]) -> list[Evaluation]:
    if not tables:
        return []
    steps = set.intersection(*({e.step for e in found} for found in tables))
    by_step: dict[int, list[Evaluation]] = {step: [] for step in sorted(steps)}
    for found in tables:
        for evaluation in found:
            if evaluation.step in by_step:
                by_step[evaluation.step].append(evaluation)
    out = []
    for here in by_step.values():
        first = here[0]
        levels = {
            level: _mean_metrics([e.levels[level] for e in here if level in e.levels])
            for level in first.levels
        }
        metrics = _mean_metrics([e.metrics for e in here])
        out.append(replace(first, raw={}, metrics=metrics, levels=levels, n_runs=len(here)))
    return out


def _mean_metrics(tables: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """Means over runs. `n` is left out: the interval is over the runs, not over the problems."""
    out = {}
    for name in tables[0]:
        values = [t[name].value for t in tables if name in t]
        known = [value for value in values if value is not None]
        low, high = t_interval(known)
        if low is not None and high is not None and 0 <= min(known) <= max(known) <= 1:
            low, high = max(0.0, low), min(1.0, high)
        out[name] = Metric(fmean(known) if known else None, low, high, n=None)
    return out


def _mean_stages(tables: Sequence[Sequence[Stage]]) -> list[Stage]:
    """Stage by stage, means over the runs that have it."""
    by_name: dict[str, list[Stage]] = {}
    for stages in tables:
        for stage in stages:
            by_name.setdefault(stage.name, []).append(stage)
    out = []
    for name, these in by_name.items():
        reasons = dict.fromkeys(reason for stage in these for reason in stage.dropped)
        facts = dict.fromkeys(key for stage in these for key in stage.facts)
        out.append(
            Stage(
                name=name,
                kept=fmean(s.kept for s in these),
                dropped={r: fmean(s.dropped.get(r, 0) for s in these) for r in reasons},
                generated=fmean(s.generated for s in these),
                seconds=fmean(s.seconds for s in these),
                facts={key: _mean(s.facts.get(key) for s in these) for key in facts},
            )
        )
    return out


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
