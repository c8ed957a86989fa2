"""What is compared in a study: paired differences with verdicts, and the performance gap recovered.

Only sets of runs that fit together enter (`matched_runs.py`), and how many are missing is said.
Pairs of one base where the study has several say nothing of bases, and get no verdict; nor do arms
that spent unequally what the budget makes equal. A verdict is one of three:

    helps             the whole interval lies above 0
    does not          it lies below the smallest difference that would matter, or below 0
    cannot tell yet   anything else: too few pairs, no interval, or one that holds both
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from rekindle.errors import DataError
from rekindle.evals.compare import LOWER_IS_BETTER, Difference, compare_many
from rekindle.evals.pgr import recovered
from rekindle.evals.significance import holm
from rekindle.study.analyse.matched_runs import Finished, Key, error_line, matched_runs
from rekindle.study.analyse.spending import Means, unequal_pair
from rekindle.study.plan.fairness import has_stages
from rekindle.study.plan.study_file import Comparison, Study
from rekindle.study.schema import ComparisonResult, DeclaredComparison, GapResult, Verdict
from rekindle.study.store.declaration import compared_pairs

HELPS: Verdict = "helps"
DOES_NOT: Verdict = "does not"
CANNOT_TELL: Verdict = "cannot tell yet"
SMALL = "above 0, but smaller than what was declared to matter"
_NAN = math.nan
_UNDEFINED = Difference(_NAN, _NAN, _NAN, _NAN, _NAN, _NAN, n_problems=0, n_pairs=0)


def verdict_of(
    difference: Difference, *, meaningful: float, lower_is_better: bool = False
) -> Verdict:
    """One of `helps`, `does not`, `cannot tell yet`; see the module's text."""
    if lower_is_better:
        difference = difference._replace(ci_low=-difference.ci_high, ci_high=-difference.ci_low)
    if difference.n_pairs < 2 or not math.isfinite(difference.ci_low + difference.ci_high):
        return CANNOT_TELL
    if difference.ci_low > 0:
        return HELPS
    return DOES_NOT if difference.ci_high < meaningful else CANNOT_TELL


def compare_arms(
    finished: Finished,
    means: Means,
    unequal: Mapping[str, float],
    first: DeclaredComparison | None,
) -> list[ComparisonResult]:
    """The rows of all comparisons in all metrics, the one in force first.

    `first` is what was declared before the first run, where another is in force.
    """
    study = finished.study
    primary = (study.primary.metric, study.primary.level)
    pairs = compared_pairs(study, first)
    rows = []
    for metric, level in _metrics_compared(study, first):
        # The p-values of all comparisons in one metric are adjusted together.
        family = [_compare(finished, pair, metric, level) for pair in pairs]
        adjusted = holm([row.p_value for row in family])
        for i, (pair, row) in enumerate(zip(pairs, family, strict=True)):
            budget = unequal_pair(study.budget, means, arm=pair.arm, baseline=pair.baseline)
            undecided = budget and _equal_was_promised(finished, pair)
            rows.append(
                row.with_(
                    verdict=CANNOT_TELL if undecided else row.verdict,
                    why="; ".join(filter(None, [row.why, budget])),
                    unequal_budget=sorted({pair.arm, pair.baseline} & unequal.keys()),
                    primary=i == 0 and (metric, level) == primary,
                    p_holm=adjusted[i],
                )
            )
    return rows


def _equal_was_promised(finished: Finished, pair: Comparison) -> bool:
    """Whether the budget makes two arms equal; without a limit, stages take what they take."""
    arms = [run for run in finished.runs if run.arm in (pair.arm, pair.baseline)]
    return finished.study.budget.at_most is not None or not any(map(has_stages, arms))


def recovered_gaps(finished: Finished) -> list[GapResult]:
    """The performance gap recovered by every arm that is not one of its ends, in each metric.

    Only bases and seeds that the arm and both ends have enter. A row says what a reader must know
    of it; without bounds, or without a value, why.
    """
    study = finished.study
    if study.pgr is None:
        return []
    weak, ceiling = study.pgr.weak, study.pgr.ceiling
    students = [arm for arm in study.arms if arm not in (weak, ceiling)]
    if not students:
        why = f"there is no arm besides the two ends, {weak} and {ceiling}"
        primary = study.primary
        return [_no_gap("none", primary.metric, primary.level, {"n_pairs": 0}, why)]
    return [
        _gap(finished, (weak, arm, ceiling), metric, level)
        for metric, level in _metrics_compared(study)
        for arm in students
    ]


def _no_gap(
    arm: str, metric: str, level: str | None, counts: Mapping[str, int], why: str
) -> GapResult:
    undefined = {"pgr": None, "ci_low": None, "ci_high": None, "n_problems": 0}
    row = {"method": arm, "metric": metric, "level": level, **undefined, **counts, "why": why}
    return GapResult.read(row)  # in this order, as the first studies wrote it


def _gap(
    finished: Finished, arms: tuple[str, str, str], metric: str, level: str | None
) -> GapResult:
    """PGR of the weak arm, the student and the ceiling, `arms`."""
    study, _, evals = finished
    sets, why, _ = matched_runs(finished, arms, metric, level)
    counts = _count(study, sets)
    if not sets:
        why = why or ["no base and seed that all three arms have"]
        return _no_gap(arms[1], metric, level, counts._asdict(), "; ".join(why))
    of_arms = [[evals[runs[i].out] for runs in sets.values()] for i in range(3)]
    bases = [base for base, _ in sets]
    try:
        gap = recovered(*of_arms, metric=metric, level=level, bases=bases)
    except DataError as error:
        return _no_gap(arms[1], metric, level, counts._asdict(), error_line(error))
    why += [gap.reason] if gap.reason else []
    return GapResult(
        method=arms[1],
        metric=metric,
        level=level,
        **counts._asdict(),
        pgr=gap.value,
        ci_low=gap.ci_low,
        ci_high=gap.ci_high,
        n_problems=gap.n_problems,
        why="; ".join([*why, *_reservations(study, counts)]),
    )


def _metrics_compared(
    study: Study, first: DeclaredComparison | None = None
) -> list[tuple[str, str | None]]:
    """Metrics and levels that are compared, the one in force first; see `compare_arms`."""
    primary = (study.primary.metric, study.primary.level)
    wanted = [primary, *((m, level) for m in study.secondary for level in study.levels)]
    wanted += [(first.metric, first.level)] if first else []
    return list(dict.fromkeys(wanted))


def _compare(
    finished: Finished, pair: Comparison, metric: str, level: str | None
) -> ComparisonResult:
    """A row of study.json, but for what the budget and the other rows say of it."""
    study, _, evals = finished
    sets, why, doubtful = matched_runs(finished, (pair.baseline, pair.arm), metric, level)
    counts, bases = _count(study, sets), [base for base, _ in sets]
    pairs = [(evals[before.out], evals[after.out]) for before, after in sets.values()]
    change, lower = _UNDEFINED, metric in LOWER_IS_BETTER
    if sets:
        change = compare_many(pairs, metric=metric, level=level, bases=bases, kind=study.interval)
        why = [*why, *_reservations(study, counts)]
    verdict = verdict_of(change, meaningful=study.meaningful, lower_is_better=lower)
    if doubtful or counts.n_bases == 1 < len(study.bases):
        verdict = CANNOT_TELL
    if verdict == HELPS and (-change.ci_low if lower else change.ci_high) < study.meaningful:
        why = [*why, SMALL]
    row = ComparisonResult(
        method=pair.arm,
        baseline=pair.baseline,
        metric=metric,
        lower_is_better=lower,
        level=level,
        n_seeds=len({seed for _, seed in sets}),
        **counts._asdict(),
        before=change.before,
        after=change.after,
        delta=change.value,
        ci_low=change.ci_low,
        ci_high=change.ci_high,
        p_value=change.p_value,
        n_problems=change.n_problems,
        n_samples=pairs[0][0]["n_samples"] if pairs else 0,
        verdict=verdict,
        why="; ".join(why if sets else why or ["no pair of finished runs"]),
        unequal_budget=[],
        primary=False,
        p_holm=None,
    )
    if pairs:
        row = row.with_(split=pairs[0][0]["split"])
    if pairs and study.interval != "crossed":
        other = compare_many(pairs, metric=metric, level=level, bases=bases)
        intervals = {study.interval: change, "crossed": other}
        ends = {kind: [one.ci_low, one.ci_high] for kind, one in intervals.items()}
        row = row.with_(intervals=ends)
    return row


class _Counts(NamedTuple):
    """How many sets of runs a row rests on, of how many bases, and how many are missing."""

    n_pairs: int
    n_bases: int
    missing_pairs: int


def _count(study: Study, sets: Mapping[Key, object]) -> _Counts:
    planned = len(study.bases) * len(study.seeds)
    return _Counts(len(sets), len({base for base, _ in sets}), planned - len(sets))


def _reservations(study: Study, counts: _Counts) -> list[str]:
    """What a reader of an interval must know of the runs that it rests on."""
    why = []
    if counts.n_pairs == 1:
        why.append("one pair of runs decides nothing")
    if counts.n_bases == 1 < len(study.bases):
        why.append(f"pairs of one base model of {len(study.bases)} say nothing of the others")
    if counts.missing_pairs:
        planned = len(study.bases) * len(study.seeds)
        why.append(f"{counts.missing_pairs} of {planned} pairs are missing")
    return why
