"""What a study found: paired differences with intervals, what each arm cost, and what went wrong.

Only pairs that both arms have enter a comparison, and how many are missing is said. Pairs of one
base where the study has several say nothing of bases, and get no verdict. A verdict is one of
three:

    helps             the whole interval lies above 0
    does not          it lies below the smallest difference that would matter, or below 0
    cannot tell yet   anything else: too few pairs, no interval, or one that holds both
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from rekindle.errors import DataError
from rekindle.evals.compare import (
    LOWER_IS_BETTER,
    Difference,
    Eval,
    compare_many,
    refuse_unlike,
    values_of,
)
from rekindle.evals.pgr import recovered
from rekindle.evals.significance import holm
from rekindle.files import read_json, read_jsonl
from rekindle.methods.rounds import ROUNDS
from rekindle.study.declared import compared_pairs, declared_first, primary_told
from rekindle.study.design import Budget, Comparison, Planned, Study
from rekindle.study.places import MANIFEST, RESULTS_FORMAT, SPENT, is_finished

HELPS, DOES_NOT, CANNOT_TELL = "helps", "does not", "cannot tell yet"


class Failure(NamedTuple):
    """A run that did not finish, and why."""

    arm: str
    base: str
    seed: int
    why: str


@dataclass(frozen=True)
class Spent:
    """What a run cost: tokens sampled and tokens in the loss, optimizer updates, seconds."""

    generated: float
    trained: float
    updates: float
    seconds: float


def study_results(
    study: Study, out: Path, runs: Sequence[Planned], failures: Sequence[Failure]
) -> dict[str, Any]:
    """The content of study.json; undefined numbers are null there."""
    done = [run for run in runs if is_finished(run.out)]
    spent = {run.out: spent_by(run.out) for run in done}
    arms = {arm: _arm(study, arm, runs, done, spent) for arm in study.arms}
    means = {arm: row["spent"] for arm, row in arms.items()}
    unequal = unequal_budgets(study.budget, means, baseline=study.baseline)
    manifest = read_json(out / MANIFEST)
    return {
        "format": RESULTS_FORMAT,
        "study": study.study,
        "claim": study.claim,
        "declared": manifest["fingerprints"]["declared"],
        "changes": manifest["changes"],
        "commit": manifest["commit"],
        "dirty": manifest["dirty"],
        "command": manifest["command"],
        "bases": list(study.bases),
        "seeds": list(study.seeds),
        "primary": primary_told(study, manifest),
        "meaningful": study.meaningful,
        "interval": study.interval,
        "budget": {**study.budget.model_dump(mode="json"), "unequal": unequal},
        "comparisons": _comparisons(study, done, unequal, declared_first(study, manifest)),
        "pgr": recovered_by(study, done),
        "arms": arms,
        "failed": [failure._asdict() for failure in failures],
        "unfinished": len(runs) - len(done),
    }


def spent_by(place: Path) -> Spent:
    """The cost of a finished run, all its stages together; evaluation is not counted."""
    if (place / SPENT).exists():
        return Spent(**read_json(place / SPENT))
    rows = [row for _, row in read_jsonl(place / "metrics.jsonl")]

    def total(name: str, otherwise: float = 0.0) -> float:
        return float(sum(_number(row.get(name), otherwise) for row in rows))

    # The evaluation before the first step is in the first row, beside a step that does not hold it.
    steps = (_number(r.get("time/step"), 0.0) - _number(r.get("time/eval"), 0.0) for r in rows)
    stages = [read_json(path) for path in sorted(place.glob("stages/*/stage.json"))]
    return Spent(
        generated=total("tokens/generated") + sum(s["generated"] for s in stages),
        trained=total("tokens/trained"),
        updates=total("updates", 1.0),
        seconds=sum(max(0.0, seconds) for seconds in steps) + sum(s["seconds"] for s in stages),
    )


def unequal_budgets(
    budget: Budget, spent: Mapping[str, Mapping[str, float | None]], *, baseline: str
) -> dict[str, float]:
    """Arms whose mean cost differs in the enforced unit from what is due: arm -> ratio to it.

    What is due is `at_most`; where it is not given, what the baseline spent, or, where that is
    nothing, the least that an arm did. An arm that
    trains nothing (an evaluation of the start) costs 0 and is not listed.
    """
    means = {arm: row[budget.unit] for arm, row in spent.items()}
    known = {arm: value for arm, value in means.items() if value}
    if not known:
        return {}
    due = budget.at_most or known.get(baseline) or min(known.values())
    ratios = {arm: value / due for arm, value in known.items()}
    return {arm: ratio for arm, ratio in ratios.items() if abs(ratio - 1) > budget.tolerance}


def verdict_of(found: Difference, *, meaningful: float, lower_is_better: bool = False) -> str:
    """One of `helps`, `does not`, `cannot tell yet`; see the module's text."""
    if lower_is_better:
        found = found._replace(ci_low=-found.ci_high, ci_high=-found.ci_low)
    if found.n_pairs < 2 or not math.isfinite(found.ci_low + found.ci_high):
        return CANNOT_TELL
    if found.ci_low > 0:
        return HELPS
    return DOES_NOT if found.ci_high < meaningful else CANNOT_TELL


def _arm(
    study: Study,
    arm: str,
    runs: Sequence[Planned],
    done: Sequence[Planned],
    spent: Mapping[Path, Spent],
) -> dict[str, Any]:
    mine = [run for run in done if run.arm == arm]
    costs = [spent[run.out] for run in mine]
    names = Spent.__dataclass_fields__
    return {
        "settings": study.arms[arm],
        "planned": sum(run.arm == arm for run in runs),
        "finished": len(mine),
        "spent": {name: _mean([vars(c)[name] for c in costs]) for name in names},
        "rounds": _rounds([run.out for run in mine]),
        "runs": [
            {"base": run.base, "seed": run.seed, "out": str(run.out), **vars(spent[run.out])}
            for run in mine
        ],
    }


def _rounds(places: Sequence[Path]) -> list[dict[str, float | None]]:
    """Of methods that go in rounds: each round's numbers, means over the runs that reached it."""
    found: dict[int, list[dict[str, Any]]] = {}
    for place in places:
        path = place / "stages" / ROUNDS
        for _, row in read_jsonl(path) if path.exists() else ():
            found.setdefault(row["round"], []).append(row)
    out = []
    for number, rows in found.items():
        keys = [key for key, value in rows[0].items() if not isinstance(value, dict)]
        means = {k: _mean([row[k] for row in rows if row.get(k) is not None]) for k in keys}
        out.append({**means, "round": number})
    return out


def recovered_by(study: Study, done: Sequence[Planned]) -> list[dict[str, Any]]:
    """The performance gap recovered by every arm that is not one of its ends, in each metric.

    Only bases and seeds that the arm and both ends have enter. A row without bounds, or without a
    value, says why.
    """
    if study.pgr is None:
        return []
    ends = (study.pgr.weak, study.pgr.ceiling)
    places: dict[str, dict[tuple[str, int], Path]] = {arm: {} for arm in study.arms}
    for run in done:
        places[run.arm][run.base, run.seed] = run.out
    rows, evals = [], Evals()
    for metric, level in _measured(study):
        if metric in LOWER_IS_BETTER:
            continue
        for arm in (name for name in study.arms if name not in ends):
            keys = [k for k in places[arm] if all(k in places[end] for end in ends)]
            row = {"method": arm, "metric": metric, "level": level, "n_pairs": len(keys)}
            rows.append(
                {**row, **_gap([places[a] for a in (ends[0], arm, ends[1])], keys, row, evals)}
            )
    return rows


def _gap(
    places: Sequence[Mapping[tuple[str, int], Path]],
    keys: Sequence[tuple[str, int]],
    row: Mapping[str, Any],
    evals: Evals,
) -> dict[str, Any]:
    """PGR of the runs `keys` of the weak arm, the student and the ceiling."""
    empty = {"pgr": None, "ci_low": None, "ci_high": None, "n_problems": 0}
    if not keys:
        return {**empty, "why": "no base and seed that all three arms have"}
    arms = [[evals[where[key]] for key in keys] for where in places]
    bases = [base for base, _ in keys]
    try:
        found = recovered(*arms, metric=row["metric"], level=row["level"], bases=bases)
    except DataError as error:
        return {**empty, "why": str(error).splitlines()[0]}
    return {
        "pgr": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n_problems": found.n_problems,
        "why": found.reason or "",
    }


def _measured(study: Study, first: Mapping[str, Any] | None = None) -> list[tuple[str, str | None]]:
    """Metrics and levels that are compared, the declared one first."""
    primary = (study.primary.metric, study.primary.level)
    wanted = [primary, *((m, level) for m in study.secondary for level in study.levels)]
    wanted += [(first["metric"], first["level"])] if first else []
    return list(dict.fromkeys(wanted))


def _comparisons(
    study: Study,
    done: Sequence[Planned],
    unequal: Mapping[str, float],
    first: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    primary = (study.primary.metric, study.primary.level)
    rows, evals = [], Evals()
    pairs = compared_pairs(study, first)
    for metric, level in _measured(study, first):
        # The p-values of all comparisons in one metric are adjusted together.
        family = [_compared(study, done, pair, metric, level, unequal, evals) for pair in pairs]
        adjusted = holm([row["p_value"] for row in family])
        for i, row in enumerate(family):
            declared = i == 0 and (metric, level) == primary
            rows.append({**row, "primary": declared, "p_holm": adjusted[i]})
    return rows


def _compared(
    study: Study,
    done: Sequence[Planned],
    pair: Comparison,
    metric: str,
    level: str | None,
    unequal: Mapping[str, float],
    evals: Evals,
) -> dict[str, Any]:
    mine = {(run.base, run.seed): run.out for run in done if run.arm == pair.arm}
    theirs = {(run.base, run.seed): run.out for run in done if run.arm == pair.baseline}
    planned = len(study.bases) * len(study.seeds)
    both, why = [key for key in theirs if key in mine], list[str]()
    if not both:
        why.append("no pair of finished runs")
    try:
        both = [key for key in both if _scored(evals, theirs[key], mine[key], metric, level)]
        if not both and not why:
            why.append("no problem has a score of it in both arms")
    except DataError as error:  # evaluated in another way, or not measured
        both, why = [], [str(error).splitlines()[0]]
    row: dict[str, Any] = {
        "method": pair.arm,
        "baseline": pair.baseline,
        "metric": metric,
        "lower_is_better": metric in LOWER_IS_BETTER,
        "level": level,
        "n_seeds": len({seed for _, seed in both}),
        "n_bases": len({base for base, _ in both}),
        "n_pairs": len(both),
        "missing_pairs": planned - len(both),
        "unequal_budget": sorted({pair.arm, pair.baseline} & unequal.keys()),
    }
    if both:
        pairs = [(evals[theirs[key]], evals[mine[key]]) for key in both]
        row |= _difference(study, pairs, [base for base, _ in both], metric, level)
        why += _reservations(study, row, planned)
    else:
        names = ("before", "after", "delta", "ci_low", "ci_high", "p_value")
        row |= {**dict.fromkeys(names), "n_problems": 0, "n_samples": 0, "verdict": CANNOT_TELL}
    return {**row, "why": "; ".join(why)}


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


def _reservations(study: Study, row: Mapping[str, Any], planned: int) -> list[str]:
    """What a reader of the verdict must know."""
    why = []
    if row["n_pairs"] == 1:
        why.append("one pair of runs decides nothing")
    if row["n_bases"] == 1 < len(study.bases):
        why.append(f"pairs of one base model of {len(study.bases)} say nothing of the others")
    if row["missing_pairs"]:
        why.append(f"{row['missing_pairs']} of {planned} pairs are missing")
    return why


class Evals(dict[Path, Eval]):
    """Run directory -> the content of its eval.json, read once."""

    def __missing__(self, place: Path) -> Eval:
        found: Eval = read_json(place / "eval.json")
        self[place] = found
        return found


def _scored(evals: Evals, before: Path, after: Path, metric: str, level: str | None) -> bool:
    """Whether a problem has a score in both.

    Raises:
        DataError: they are not of the same problems, or the metric was not measured.
    """
    data = [read_json(place / MANIFEST)["fingerprints"].get("data") for place in (before, after)]
    if data[0] != data[1]:
        raise DataError("the data was changed half-way: the runs of a pair had other files")
    refuse_unlike(evals[before], evals[after])
    values = [values_of(evals[place], metric, level) for place in (before, after)]
    return bool((~np.isnan(values[0] - values[1])).any())


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _number(value: Any, otherwise: float) -> float:
    return otherwise if value is None else float(value)
