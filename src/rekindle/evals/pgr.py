"""Performance gap recovered: how much of the way from weak to ceiling a student has come.

    PGR = (w2s - weak) / (ceiling - weak)                    Burns et al. 2023, arXiv 2312.09390

1: as good as training on gold; 0: no better than the weak model; below 0 and above 1 can be.
Without a gap (ceiling <= weak) it is undefined, never 0 and never clipped.

Axes: R runs, P problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rekindle.errors import DataError
from rekindle.evals.compare import Eval, refuse_unlike, values_of
from rekindle.evals.intervals import LEVEL, RESAMPLES, Floats

NO_GAP = "the ceiling is not above the weak model: there is no gap to recover"
_UNSURE = "in too many resamples the ceiling is not above the weak model: the bounds are unknown"


class PGR(NamedTuple):
    """PGR with its interval; nan where it is undefined, and then with a reason."""

    value: float
    ci_low: float
    ci_high: float
    n_problems: int
    n_runs: int
    draws: int
    undefined: int  # draws in which there is no gap
    reason: str | None = None


def pgr(weak: float, w2s: float, ceiling: float) -> float | None:
    """PGR of three accuracies on the same problems; None where there is no gap, or no number."""
    if not ceiling > weak or math.isnan(w2s):
        return None
    return (w2s - weak) / (ceiling - weak)


def pgr_interval(
    weak: Sequence[Floats],
    w2s: Sequence[Floats],
    ceiling: Sequence[Floats],
    *,
    bases: Sequence[str] | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> PGR:
    """PGR with a percentile bootstrap over problems, and over runs where there are several.

    A draw takes the same problems and the same runs of all three. Of R runs it takes R - 1, which
    undoes the bootstrap's small-sample bias in the variance between runs; with `bases`, of B base
    models B - 1, and of each the same of its runs.

    Args:
        weak, w2s, ceiling: a run each: its score on every problem, the same problems everywhere,
            nan where one has none (it is left out everywhere). Runs in the same place belong
            together; a single run of one of the three stands beside all runs of the others.
        bases: the base model of each run; None: each its own.

    Returns:
        Bounds over the draws that have a gap; both nan where those that have none are more than a
        tail of the interval.

    Raises:
        DataError: the three have different numbers of runs or problems.
    """
    tables = _tables(weak, w2s, ceiling)
    known_P = ~np.isnan(tables).any(axis=(0, 1))
    tables = tables[:, :, known_P]
    runs, problems = tables.shape[1:]
    means = [float(np.mean(table_RP)) if problems else math.nan for table_RP in tables]
    value = pgr(means[0], means[1], means[2])
    if value is None or problems < 2:
        reason = "too few problems" if problems < 2 else NO_GAP
        found = math.nan if value is None else value
        return PGR(found, math.nan, math.nan, problems, runs, 0, 0, reason)
    drawn_3K = _draws(tables, _clusters(bases, runs), np.random.default_rng(seed))
    gap_K = drawn_3K[2] - drawn_3K[0]
    usable_K = gap_K > 0
    undefined = int(np.sum(~usable_K))
    tail = (1 - level) / 2
    if undefined > tail * RESAMPLES:
        unsure = (problems, runs, RESAMPLES, undefined, _UNSURE)
        return PGR(value, math.nan, math.nan, *unsure)
    ratio = (drawn_3K[1] - drawn_3K[0])[usable_K] / gap_K[usable_K]
    low, high = np.quantile(ratio, [tail, 1 - tail])
    return PGR(value, float(low), float(high), problems, runs, RESAMPLES, undefined)


def recovered(
    weak: Sequence[Eval],
    w2s: Sequence[Eval],
    ceiling: Sequence[Eval],
    *,
    metric: str = "pass@1",
    level: str | None = None,
    bases: Sequence[str] | None = None,
) -> PGR:
    """`pgr_interval` of evaluations (the content of eval.json), one a run; level None: all.

    Raises:
        DataError: they are not of the same problems, or the metric was not measured.
    """
    for found in [*weak, *w2s, *ceiling]:
        refuse_unlike(weak[0], found)
    arms = [[values_of(found, metric, level) for found in arm] for arm in (weak, w2s, ceiling)]
    return pgr_interval(*arms, bases=bases)


def _tables(*arms: Sequence[Floats]) -> Floats:
    """[3, R, P]; a single run is repeated."""
    runs = max(len(arm) for arm in arms)
    sizes = sorted({len(scores) for arm in arms for scores in arm})
    if any(len(arm) not in (1, runs) for arm in arms) or len(sizes) != 1:
        raise DataError(
            "PGR needs the same runs and problems of weak, student and ceiling",
            got=f"{' and '.join(str(len(arm)) for arm in arms)} runs, {sizes} problems",
            wanted="as many runs of each (or one), and one score a problem",
        )
    return np.stack(
        [np.broadcast_to(np.stack([*arm]).astype(np.float64), (runs, sizes[0])) for arm in arms]
    )


def _clusters(bases: Sequence[str] | None, runs: int) -> list[list[int]]:
    """Places of the runs of each base model."""
    names = [str(run) for run in range(runs)] if bases is None else list(bases)
    if len(names) != runs:
        raise DataError(
            "PGR needs the base model of each run", got=len(names), wanted=f"{runs} names"
        )
    return [[i for i, one in enumerate(names) if one == name] for name in dict.fromkeys(names)]


def _some(count: int, rng: np.random.Generator) -> list[int]:
    return [int(place) for place in rng.integers(count, size=max(1, count - 1))]


def _draws(tables: Floats, clusters: list[list[int]], rng: np.random.Generator) -> Floats:
    """Means of the three over resampled runs and problems, [3, K]."""
    problems = tables.shape[2]
    out = np.empty((3, RESAMPLES))
    for k in range(RESAMPLES):
        drawn = [clusters[base] for base in _some(len(clusters), rng)]
        picked_R = [runs[place] for runs in drawn for place in _some(len(runs), rng)]
        picked_P = rng.integers(problems, size=problems)
        out[:, k] = tables[:, picked_R].mean(axis=1)[:, picked_P].mean(axis=1)
    return out
