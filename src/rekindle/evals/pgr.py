"""Performance gap recovered: how much of the way from weak to ceiling a student has come.

    PGR = (w2s - weak) / (ceiling - weak)                    Burns et al. 2023, arXiv 2312.09390

1: as good as training on gold; 0: no better than the weak model; below 0 and above 1 can be.
Without a gap (ceiling <= weak) it is undefined, never 0 and never clipped.

Its interval holds every ratio r that the data do not contradict (Fieller 1954): those for which

    d_RP(r) = (w2s_RP - weak_RP) - r (ceiling_RP - weak_RP)

has an interval over bases, seeds and problems (`crossed.two_way`) that holds 0. So a PGR is above 0
where the student is above the weak model, and above 1 where it is above the ceiling. Where nearly
all problems agree the interval is no narrower than `crossed.nearly_all_agree` has it: also at the
PGR itself, so that a student who equals the ceiling on ten problems is not sure to do so on others.

Axes: R runs, P problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from rekindle.errors import DataError
from rekindle.evals.compare import LOWER_IS_BETTER, UNBOUNDED, refuse_unlike, values_of
from rekindle.evals.crossed import nearly_all_agree, two_way
from rekindle.evals.intervals import LEVEL, Floats, Interval
from rekindle.evals.reading import Eval

NO_GAP = "the ceiling is not above the weak model: there is no gap to recover"
UNSURE = "the interval of the gap itself holds 0: the bounds are unknown"
_FAR = 1e6  # a ratio beyond which a bound is as good as none
_HALVINGS = 60
_DIGITS = 12  # by which equal numbers are told from rounding


class PGR(NamedTuple):
    """PGR with its interval; nan where it is undefined, and then with a reason."""

    value: float
    ci_low: float
    ci_high: float
    n_problems: int
    n_runs: int
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
    reach: float = 1.0,
) -> PGR:
    """PGR with Fieller's interval over base models, runs and problems; see the module's text.

    Means are over problems, then over the runs of a base, then over bases. With one run the
    interval is over problems alone: it says nothing of other trainings.

    Args:
        weak, w2s, ceiling: a run each: its score on every problem, more is better, the same
            problems everywhere, nan where one has none (it is left out everywhere). Runs in the
            same place belong together; a single run of one of the three stands beside all runs of
            the others.
        bases: the base model of each run; None: each its own.
        reach: how far two scores can be apart; infinite for a metric without bounds.

    Returns:
        Both bounds are nan where the gap's own interval holds 0: then no ratio can be ruled out.

    Raises:
        DataError: the three have different numbers of runs or problems.
    """
    tables = _tables(weak, w2s, ceiling)
    tables = tables[:, :, ~np.isnan(tables).any(axis=(0, 1))]
    runs, problems = tables.shape[1:]
    clusters = _clusters(bases, runs)
    if not problems:
        return PGR(math.nan, math.nan, math.nan, 0, runs, "too few problems")
    means = [float(np.mean(_base_means(table_RP, clusters))) for table_RP in tables]
    value = pgr(means[0], means[1], means[2])
    if value is None or problems < 2:
        reason = "too few problems" if problems < 2 else NO_GAP
        known = math.nan if value is None else value
        return PGR(known, math.nan, math.nan, problems, runs, reason)
    gain_RP, gap_RP = tables[1] - tables[0], tables[2] - tables[0]
    if not _interval(gap_RP, clusters, reach).ci_low > 0:
        return PGR(value, math.nan, math.nan, problems, runs, UNSURE)
    below, above = _unseen(gain_RP - value * gap_RP, reach * (1 + abs(value)))

    def possible(ratio: float) -> bool:
        rest_RP = gain_RP - ratio * gap_RP
        interval = _interval(rest_RP, clusters, reach * (1 + abs(ratio)))
        low, high = _widened(interval, below, above)
        return low <= 0 <= high

    bounds = [_bound(possible, value, side) for side in (-1, 1)]
    return PGR(value, bounds[0], bounds[1], problems, runs)


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

    Where less is better (`nll`, `brier`) the signs are turned: the share of the way is the same,
    and there is a gap where the ceiling is below the weak model.

    Raises:
        DataError: they are not of the same problems, or the metric was not measured.
    """
    for result in [*weak, *w2s, *ceiling]:
        refuse_unlike(weak[0], result)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    arms = [
        [sign * values_of(result, metric, level) for result in arm] for arm in (weak, w2s, ceiling)
    ]
    reach = math.inf if metric in UNBOUNDED else 1.0
    return pgr_interval(*arms, bases=bases, reach=reach)


def _interval(table_RP: Floats, clusters: Sequence[Sequence[int]], reach: float) -> Interval:
    if len(table_RP) > 1:
        interval = two_way(table_RP, _base_means(table_RP, clusters))
    else:
        value, problems = float(table_RP.mean()), table_RP.shape[1]
        error = float(table_RP.std(ddof=1)) / math.sqrt(problems)
        half = float(stats.t.ppf(0.5 + LEVEL / 2, problems - 1)) * error
        interval = Interval(value, value - half, value + half, problems)
    below, above = _unseen(table_RP, reach)
    low, high = _widened(interval, below, above)
    return Interval(interval.value, low, high, interval.n)


def _widened(interval: Interval, below: float, above: float) -> tuple[float, float]:
    value = interval.value
    return min(interval.ci_low, value - below), max(interval.ci_high, value + above)


def _unseen(table_RP: Floats, reach: float) -> tuple[float, float]:
    """How far below and above their mean problems not yet seen may bring scores that agree on
    nearly all; 0 where enough of them differ."""
    blind = nearly_all_agree(np.round(table_RP, _DIGITS), (-reach, reach))
    if not blind.n:
        return 0.0, 0.0
    return blind.value - blind.ci_low, blind.ci_high - blind.value


def _base_means(table_RP: Floats, clusters: Sequence[Sequence[int]]) -> list[float]:
    return [float(table_RP[list(runs)].mean()) for runs in clusters]


def _bound(possible: Callable[[float], bool], value: float, side: int) -> float:
    """The last possible ratio on one side of `value`: far enough out, then by halving."""
    inside, step = value, 1e-9
    while possible(value + side * step):
        inside, step = value + side * step, step * 4
        if step > _FAR:
            return side * math.inf
    outside = value + side * step
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if possible(middle) else (inside, middle)
        if abs(outside - inside) < 1e-9:
            break
    return value if inside == value else (inside + outside) / 2


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
