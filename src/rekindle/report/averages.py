"""Several runs of one recipe as one: means at each step that all of them reached, with spread.

The interval is a 95 % t-interval over the runs: how far trainings differ. A study's verdict does
not rest on it, but on the paired differences of study.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean, stdev
from typing import TypeVar

from scipy import stats

from rekindle.report.formatting import grouped, listed
from rekindle.report.load import RunData
from rekindle.report.run_files import Evaluation, LevelMetrics, LogRow, Metric
from rekindle.report.stage_records import Stage

T = TypeVar("T")
TEXT_RUNS = 1  # of each arm, whose rollouts and pairs can be browsed


def averaged(name: str, runs: Sequence[RunData]) -> RunData:
    """One run that stands for several of the same recipe."""
    first = runs[0]
    return replace(
        first,
        name=name,
        rows=_mean_rows([run.rows for run in runs if run.rows]),
        rounds=_mean_rows([run.rounds for run in runs if run.rounds]),
        evaluations=_mean_evaluations([run.evaluations for run in runs if run.evaluations]),
        samples=[sample for run in runs[:TEXT_RUNS] for sample in run.samples],
        pairs=[pair for run in runs[:TEXT_RUNS] for pair in run.pairs],
        stages=_mean_stages([run.stages for run in runs if run.stages]),
        notes=_notes(runs),
        members=list(runs),
    )


def _notes(runs: Sequence[RunData]) -> list[str]:
    """What is to be known of the runs; what several share is said once."""
    said = grouped(((note, run.name) for run in runs for note in run.notes), lambda pair: pair[0])
    by_note = {note: [name for _, name in pairs] for note, pairs in said.items()}
    return [
        f"{'every run' if len(names) == len(runs) > 1 else listed(names, most=4)}: {note}"
        for note, names in by_note.items()
    ]


def mean_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % t-interval of the mean over runs, none for a single run; of shares, which lie
    between 0 and 1, no further than that."""
    n = len(values)
    if n < 2:
        return None, None
    mean, half = fmean(values), _quantile(n) * stdev(values) / math.sqrt(n)
    if 0 <= min(values) <= max(values) <= 1:
        return max(0.0, mean - half), min(1.0, mean + half)
    return mean - half, mean + half


@cache  # scipy's takes 50 microseconds, for each point of each curve
def _quantile(n: int) -> float:
    return float(stats.t.ppf(0.975, n - 1))


def _shared(tables: Sequence[Sequence[T]], at: Callable[[T], int]) -> dict[int, list[T]]:
    """Step -> the entries of all runs, for the steps that every run has."""
    steps = set.intersection(*({at(item) for item in table} for table in tables)) if tables else ()
    entries = grouped((item for table in tables for item in table), at)
    return {step: entries[step] for step in sorted(steps)}


def _mean_rows(tables: Sequence[Sequence[LogRow]]) -> list[LogRow]:
    rows_at = _shared(tables, lambda row: row.at)
    return [LogRow(step, _by_key([row.values for row in rows])) for step, rows in rows_at.items()]


def _mean_evaluations(tables: Sequence[Sequence[Evaluation]]) -> list[Evaluation]:
    means = []
    for each in _shared(tables, lambda evaluation: evaluation.step).values():
        first = each[0]
        levels = {
            level: LevelMetrics(
                metrics=_mean_metrics([e.at(level) for e in each if level in e.levels]),
                n_problems=first.problems_at(level),
            )
            for level in first.levels
        }
        metrics = _mean_metrics([e.metrics for e in each])
        changes = {"metrics": metrics, "levels": levels, "n_runs": len(each)}
        means.append(first.model_copy(update=changes))
    return means


def _mean_metrics(tables: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """Means over runs. `n` is left out: the interval is over the runs, not over the problems."""
    means = {}
    for name in tables[0]:
        known = [v for table in tables if name in table and (v := table[name].value) is not None]
        means[name] = Metric(fmean(known) if known else None, *mean_interval(known), n=None)
    return means


def _mean_stages(tables: Sequence[Sequence[Stage]]) -> list[Stage]:
    """Stage by stage, means over the runs that have it."""
    by_name = grouped((stage for stages in tables for stage in stages), lambda stage: stage.name)
    means = []
    for name, these in by_name.items():
        reasons = dict.fromkeys(reason for stage in these for reason in stage.dropped)
        means.append(
            Stage(
                name=name,
                kept=fmean(s.kept for s in these),
                dropped={r: fmean(s.dropped.get(r, 0) for s in these) for r in reasons},
                generated=fmean(s.generated for s in these),
                seconds=fmean(s.seconds for s in these),
                facts=_by_key([s.facts for s in these]),
            )
        )
    return means


def _by_key(tables: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means of those that have a number, for every key."""
    keys = dict.fromkeys(key for table in tables for key in table)
    known = {key: [v for table in tables if (v := table.get(key)) is not None] for key in keys}
    return {key: fmean(values) if values else None for key, values in known.items()}
