"""Two evaluations on the same problems: paired differences with intervals and a permutation p."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from rekindle.errors import DataError
from rekindle.evals.crossed import Kind, crossed, run_sign_flip_p
from rekindle.evals.intervals import Floats, Interval, hierarchical, paired, sign_flip_p
from rekindle.evals.passk import avg_at_k, pass_at_k
from rekindle.evals.reading import Eval
from rekindle.evals.significance import mcnemar_p

LOWER_IS_BETTER = frozenset({"nll", "brier"})
UNBOUNDED = frozenset({"nll"})  # every other metric lies between 0 and 1


class Difference(NamedTuple):
    """`after - before` over the same problems; both sides over those that have a score in both."""

    value: float
    ci_low: float
    ci_high: float
    p_value: float
    before: float
    after: float
    n_problems: int
    n_pairs: int  # that have a score


def compare(
    before: Eval, after: Eval, *, metric: str = "pass@1", level: str | None = None
) -> Difference:
    """The paired difference of one metric, on all problems or one level.

    Raises:
        DataError: other tasks, splits or problems, or a metric that was not measured.
    """
    return compare_many([(before, after)], metric=metric, level=level)


def compare_many(
    pairs: Sequence[tuple[Eval, Eval]],
    *,
    metric: str = "pass@1",
    level: str | None = None,
    bases: Sequence[str] | None = None,
    kind: Kind = "crossed",
) -> Difference:
    """Several pairs (seeds, base models): the interval covers both pairs and problems.

    Args:
        pairs: (before, after) evaluations on the same problems.
        metric, level: what is compared; level None: all problems.
        bases: the base model of each pair, where several pairs share one; None: each its own. All
            pairs must then be of the same problems; without it, problems may be drawn within pairs.
        kind: the interval of several pairs, see `crossed.crossed`.

    The interval and p-value are those of `crossed.crossed`. A single pair's p-value is McNemar's
    where each problem is right or wrong, else it flips the sign of each problem's difference. An
    evaluation paired with itself (the same object) differs by exactly nothing.

    Raises:
        DataError: other tasks, splits or problems, a metric that was not measured, or pairs of
            other problems beside `bases`.
    """
    if not pairs:
        raise DataError("there is nothing to compare", wanted="at least one pair of evaluations")
    befores, afters = [], []
    for before, after in pairs:
        refuse_unlike(before, after)
        befores.append(values_of(before, metric, level))
        afters.append(befores[-1] if after is before else values_of(after, metric, level))
    differences = [a - b for a, b in zip(afters, befores, strict=True)]
    reach = np.inf if metric in UNBOUNDED else 1.0
    bounds = (-reach, reach)
    if len(pairs) == 1:
        interval = paired(afters[0], befores[0], bounds=bounds)
        p_value = _one_pair_p(afters[0], befores[0])
    else:
        asked = {problems_at(before, level) for before, _ in pairs}
        interval, p_value = _over_pairs(differences, bases, bounds, kind, alike=len(asked) == 1)
    unscored = [np.isnan(difference) for difference in differences]
    befores = [np.where(no, np.nan, x) for no, x in zip(unscored, befores, strict=True)]
    afters = [np.where(no, np.nan, x) for no, x in zip(unscored, afters, strict=True)]
    return Difference(
        *interval[:3],
        p_value,
        before=_mean(befores, bases),
        after=_mean(afters, bases),
        n_problems=interval.n,
        n_pairs=sum(bool((~np.isnan(d)).any()) for d in differences),
    )


def _one_pair_p(after: Floats, before: Floats) -> float:
    kept = np.concatenate([after, before])
    kept = kept[~np.isnan(kept)]
    if np.isin(kept, (0.0, 1.0)).all():
        return mcnemar_p(after, before)
    return sign_flip_p(after - before)


def _over_pairs(
    differences: list[Floats],
    bases: Sequence[str] | None,
    bounds: tuple[float, float],
    kind: Kind,
    *,
    alike: bool,
) -> tuple[Interval, float]:
    if not alike and bases is not None:
        raise DataError(
            "the pairs have different problems",
            why="problems are crossed with base models, so all pairs need the same problems",
            fix="leave out the pairs with other problems",
        )
    if not alike:  # nothing is shared: problems are drawn within pairs
        means = [float(np.nanmean(d)) for d in differences if bool((~np.isnan(d)).any())]
        return hierarchical(differences, bounds=bounds), run_sign_flip_p(means)
    names = _names(bases, len(differences))
    nested: dict[str, dict[int, Floats]] = {}
    for name, difference in zip(names, differences, strict=True):
        seeds = nested.setdefault(name, {})
        seeds[len(seeds)] = difference
    result = crossed(nested, bounds=bounds, kind=kind)
    return Interval(result.value, result.ci_low, result.ci_high, result.n_problems), result.p_value


class CompareRow(NamedTuple):
    """The difference of one metric at one level; level None: all problems."""

    level: str | None
    metric: str
    change: Difference


def compare_table(before: Eval, after: Eval) -> list[CompareRow]:
    """One row per level and metric that both measured."""
    shared = [name for name in before["metrics"] if name in after["metrics"]]
    levels: list[str | None] = [None, *before["levels"]]
    rows = [
        CompareRow(level, metric, compare(before, after, metric=metric, level=level))
        for level in levels
        for metric in shared
    ]
    return [row for row in rows if not np.isnan(row.change.value)]


def _names(bases: Sequence[str] | None, pairs: int) -> list[str]:
    return [str(i) for i in range(pairs)] if bases is None else list(bases)


def _mean(parts: Sequence[Floats], bases: Sequence[str] | None) -> float:
    """Over problems, then over the runs of a base, then over bases: as a difference is averaged."""
    kept: dict[str, list[float]] = {}
    for name, part in zip(_names(bases, len(parts)), parts, strict=True):
        if bool((~np.isnan(part)).any()):
            kept.setdefault(name, []).append(float(np.nanmean(part)))
    return float(np.mean([np.mean(means) for means in kept.values()])) if kept else float("nan")


def problems_at(result: Eval, level: str | None) -> tuple[str, ...]:
    """Ids of the problems of a level, in order; level None: all."""
    return tuple(p["id"] for p in result["problems"] if level in (None, p["level"]))


def values_of(result: Eval, metric: str, level: str | None) -> Floats:
    """One value a problem, of all problems or one level; nan where it has none.

    Raises:
        DataError: a metric that was not measured, or a level that was not evaluated.
    """
    outcome_PK = np.array(result["outcomes"], dtype=np.float64)  # null becomes nan
    greedy = result.get("greedy_outcomes")
    if metric == "greedy" and greedy is not None:
        values = np.array(greedy, dtype=np.float64)
    elif metric in result.get("values", {}):
        values = np.array(result["values"][metric], dtype=np.float64)
    elif metric.startswith("maj@") and metric in result["metrics"]:
        values = np.array(result["majority"], dtype=np.float64)
    else:
        samples = outcome_PK.shape[1]
        known: dict[str, Callable[[Floats], Floats]] = {f"avg@{samples}": avg_at_k}
        known |= {f"pass@{k}": partial(pass_at_k, k=k) for k in range(1, samples + 1)}
        if metric not in known:
            why = f"there are {samples} samples of each problem"
            raise DataError(
                f"metric '{metric}' was not measured",
                wanted=", ".join(result["metrics"]),
                why=why if metric.startswith("pass@") else None,
            )
        values = known[metric](outcome_PK)
    if level is None:
        return values
    rows = np.array([problem["level"] == level for problem in result["problems"]])
    if not rows.any():
        raise DataError(f"level '{level}' was not evaluated", wanted=", ".join(result["levels"]))
    return np.asarray(values[rows])


def refuse_unlike(before: Eval, after: Eval) -> None:
    """Raise a DataError where two evaluations are not of the same problems at the same levels."""
    for key in ("task", "split"):
        if before[key] != after[key]:
            raise DataError(
                f"the evaluations have different {key}s",
                got=f"{before[key]} and {after[key]}",
                why="a paired difference needs the same problems",
            )
    first = [problem["id"] for problem in before["problems"]]
    second = [problem["id"] for problem in after["problems"]]
    if first != second:
        differing = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
        raise DataError(
            "the evaluations have different problems",
            got=differing[:3] or f"{len(first)} and {len(second)} problems",
            why="a paired difference needs the same problems in the same order",
            fix="evaluate both with the same --split, --problems, --levels and --seed",
        )
    moved = [
        f"{one['id']}: {one['level']} and {other['level']}"
        for one, other in zip(before["problems"], after["problems"], strict=True)
        if one["level"] != other["level"]
    ]
    if moved:
        raise DataError(
            "the evaluations put the same problems at different levels",
            got=", ".join(moved[:3]) + (f" and {len(moved) - 3} more" if len(moved) > 3 else ""),
            why="a level's difference needs the same problems on both sides",
            fix="evaluate both with the same version of the data",
        )
