"""What is compared in a study: paired differences with verdicts, and the performance gap recovered.

Only sets of runs that fit together enter (`pairing.py`), and how many are missing is said. Pairs of
one base where the study has several say nothing of bases, and get no verdict; nor do arms that
spent unequally what the budget makes equal. A verdict is one of three:

    helps             the whole interval lies above 0
    does not          it lies below the smallest difference that would matter, or below 0
    cannot tell yet   anything else: too few pairs, no interval, or one that holds both
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rekindle.errors import DataError
from rekindle.evals.compare import LOWER_IS_BETTER, Difference, compare_many
from rekindle.evals.pgr import recovered
from rekindle.evals.reading import Eval
from rekindle.evals.significance import holm
from rekindle.study.analyse.matched_runs import Evals, fitting, told
from rekindle.study.analyse.spending import Means, unequal_pair
from rekindle.study.plan.fairness import in_stages
from rekindle.study.plan.study_file import Comparison, Planned, Study
from rekindle.study.store.declaration import compared_pairs

HELPS, DOES_NOT, CANNOT_TELL = "helps", "does not", "cannot tell yet"
SMALL = "above 0, but smaller than what was declared to matter"
DOUBTFUL = "as many pairs had other data or problems as those that were kept, or more"


def verdict_of(found: Difference, *, meaningful: float, lower_is_better: bool = False) -> str:
    """One of `helps`, `does not`, `cannot tell yet`; see the module's text."""
    if lower_is_better:
        found = found._replace(ci_low=-found.ci_high, ci_high=-found.ci_low)
    if found.n_pairs < 2 or not math.isfinite(found.ci_low + found.ci_high):
        return CANNOT_TELL
    if found.ci_low > 0:
        return HELPS
    return DOES_NOT if found.ci_high < meaningful else CANNOT_TELL


def compared_all(
    study: Study,
    done: Sequence[Planned],
    evals: Evals,
    means: Means,
    unequal: Mapping[str, float],
    first: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """The rows of all comparisons in all metrics, the one in force first.

    `first` is what was declared before the first run, where another is in force.
    """
    primary = (study.primary.metric, study.primary.level)
    pairs = compared_pairs(study, first)
    rows = []
    for metric, level in _measured(study, first):
        # The p-values of all comparisons in one metric are adjusted together.
        family = []
        for pair in pairs:
            row = _compared(study, done, pair, metric, level, evals)
            budget = unequal_pair(study.budget, means, arm=pair.arm, baseline=pair.baseline)
            row["unequal_budget"] = sorted({pair.arm, pair.baseline} & unequal.keys())
            if budget and _promised(study, pair, done):
                row["verdict"] = CANNOT_TELL
            row["why"] = "; ".join([*row["why"], *([budget] if budget else [])])
            family.append(row)
        adjusted = holm([row["p_value"] for row in family])
        for i, row in enumerate(family):
            declared = i == 0 and (metric, level) == primary
            rows.append({**row, "primary": declared, "p_holm": adjusted[i]})
    return rows


def _promised(study: Study, pair: Comparison, done: Sequence[Planned]) -> bool:
    """Whether the budget makes two arms equal; without a limit, stages take what they take."""
    arms = [run for run in done if run.arm in (pair.arm, pair.baseline)]
    return study.budget.at_most is not None or not any(map(in_stages, arms))


def recovered_by(study: Study, done: Sequence[Planned], evals: Evals) -> list[dict[str, Any]]:
    """The performance gap recovered by every arm that is not one of its ends, in each metric.

    Only bases and seeds that the arm and both ends have enter. A row says what a reader must know
    of it; without bounds, or without a value, why.
    """
    if study.pgr is None:
        return []
    weak, ceiling = study.pgr.weak, study.pgr.ceiling
    students = [arm for arm in study.arms if arm not in (weak, ceiling)]
    rows = []
    for metric, level in _measured(study):
        for arm in students:
            row = {"method": arm, "metric": metric, "level": level}
            rows.append({**row, **_gap(study, done, (weak, arm, ceiling), metric, level, evals)})
    if not students:
        why = f"there is no arm besides the two ends, {weak} and {ceiling}"
        row = {"method": "none", "metric": study.primary.metric, "level": study.primary.level}
        rows.append({**row, **_NO_GAP, "n_pairs": 0, "why": why})
    return rows


_NO_GAP = {"pgr": None, "ci_low": None, "ci_high": None, "n_problems": 0}


def _gap(
    study: Study,
    done: Sequence[Planned],
    arms: tuple[str, str, str],
    metric: str,
    level: str | None,
    evals: Evals,
) -> dict[str, Any]:
    """PGR of the weak arm, the student and the ceiling, `arms`."""
    sets, why, doubtful = fitting(done, arms, evals, metric, level)
    row: dict[str, Any] = {"n_pairs": len(sets), **_counts(study, sets)}
    if not sets:
        why = why or ["no base and seed that all three arms have"]
        return {**_NO_GAP, **row, "why": "; ".join(why)}
    of_arms = [[evals[runs[i].out] for runs in sets.values()] for i in range(3)]
    bases = [base for base, _ in sets]
    try:
        found = recovered(*of_arms, metric=metric, level=level, bases=bases)
    except DataError as error:
        return {**_NO_GAP, **row, "why": told(error)}
    why += [DOUBTFUL] if doubtful else []
    why += [found.reason] if found.reason else []
    return {
        **row,
        "pgr": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n_problems": found.n_problems,
        "why": "; ".join([*why, *_reservations(study, row)]),
    }


def _measured(study: Study, first: Mapping[str, Any] | None = None) -> list[tuple[str, str | None]]:
    """Metrics and levels that are compared, the one in force first; see `compared_all`."""
    primary = (study.primary.metric, study.primary.level)
    wanted = [primary, *((m, level) for m in study.secondary for level in study.levels)]
    wanted += [(first["metric"], first["level"])] if first else []
    return list(dict.fromkeys(wanted))


def _compared(
    study: Study,
    done: Sequence[Planned],
    pair: Comparison,
    metric: str,
    level: str | None,
    evals: Evals,
) -> dict[str, Any]:
    """A row of study.json, but for the budget and the adjusted p; `why` is still a list."""
    sets, why, doubtful = fitting(done, (pair.baseline, pair.arm), evals, metric, level)
    row: dict[str, Any] = {
        "method": pair.arm,
        "baseline": pair.baseline,
        "metric": metric,
        "lower_is_better": metric in LOWER_IS_BETTER,
        "level": level,
        "n_seeds": len({seed for _, seed in sets}),
        "n_pairs": len(sets),
        **_counts(study, sets),
    }
    if not sets:
        names = ("before", "after", "delta", "ci_low", "ci_high", "p_value")
        row |= {**dict.fromkeys(names), "n_problems": 0, "n_samples": 0, "verdict": CANNOT_TELL}
        return {**row, "why": why or ["no pair of finished runs"]}
    pairs = [(evals[before.out], evals[after.out]) for before, after in sets.values()]
    row |= _difference(study, pairs, [base for base, _ in sets], metric, level)
    if doubtful:
        row["verdict"] = CANNOT_TELL
        why = [*why, DOUBTFUL]
    return {**row, "why": [*why, *_reservations(study, row), *_size(study, row)]}


def _counts(study: Study, sets: Mapping[tuple[str, int], Any]) -> dict[str, int]:
    planned = len(study.bases) * len(study.seeds)
    return {"n_bases": len({base for base, _ in sets}), "missing_pairs": planned - len(sets)}


def _difference(
    study: Study,
    pairs: Sequence[tuple[Eval, Eval]],
    bases: Sequence[str],
    metric: str,
    level: str | None,
) -> dict[str, Any]:
    """The numbers of a comparison; with `interval: bootstrap` both intervals."""
    found = compare_many(pairs, metric=metric, level=level, bases=bases, kind=study.interval)
    lower = metric in LOWER_IS_BETTER
    verdict = verdict_of(found, meaningful=study.meaningful, lower_is_better=lower)
    if len(set(bases)) == 1 < len(study.bases):
        verdict = CANNOT_TELL
    row = {
        "before": found.before,
        "after": found.after,
        "delta": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p_value": found.p_value,
        "n_problems": found.n_problems,
        "n_samples": pairs[0][0]["n_samples"],
        "split": pairs[0][0]["split"],
        "verdict": verdict,
    }
    if study.interval != "crossed":
        other = compare_many(pairs, metric=metric, level=level, bases=bases)
        row["intervals"] = {
            study.interval: [found.ci_low, found.ci_high],
            "crossed": [other.ci_low, other.ci_high],
        }
    return row


def _reservations(study: Study, row: Mapping[str, Any]) -> list[str]:
    """What a reader of an interval must know of the runs that it rests on."""
    why = []
    if row["n_pairs"] == 1:
        why.append("one pair of runs decides nothing")
    if row["n_bases"] == 1 < len(study.bases):
        why.append(f"pairs of one base model of {len(study.bases)} say nothing of the others")
    if row["missing_pairs"]:
        planned = len(study.bases) * len(study.seeds)
        why.append(f"{row['missing_pairs']} of {planned} pairs are missing")
    return why


def _size(study: Study, row: Mapping[str, Any]) -> list[str]:
    """That what helps may be too small to matter. What falls by little is `does not` either way."""
    best = -row["ci_low"] if row["lower_is_better"] else row["ci_high"]
    return [SMALL] if row["verdict"] == HELPS and best < study.meaningful else []
