"""The content of study.json: what was compared, what each arm cost, and what went wrong.

A finished run that cannot be read is one that failed, with the reason and what to do; the rest is
still summed up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pydantic import JsonValue

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.methods.self_rewarding.rounds import ROUNDS
from rekindle.study.analyse.matched_runs import Evals, Finished, error_line
from rekindle.study.analyse.spending import spent_by, unequal_budgets
from rekindle.study.analyse.verdicts import compare_arms, recovered_gaps
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.schema import (
    RESULTS_FORMAT,
    ArmResult,
    BudgetResult,
    Failure,
    MeanSpent,
    RunResult,
    Spent,
    StudyResults,
)
from rekindle.study.store.declaration import (
    first_declared,
    primary_result,
    rule_caution,
    stored_manifest,
)
from rekindle.study.store.layout import is_finished

UNREAD = "it is finished and cannot be read"  # how the reason of such a failure begins


def study_results(
    study: Study,
    out: Path,
    runs: Sequence[PlannedRun],
    failures: Sequence[Failure] = (),
) -> StudyResults:
    """The content of study.json, but for what the study itself cost.

    DataError where the study's own manifest is damaged.
    """
    evals, spent, unread = Evals(), dict[Path, Spent](), list[Failure]()
    known = {(failure.arm, failure.base, failure.seed) for failure in failures}
    for run in runs:
        try:
            if is_finished(run.out):
                spent[run.out] = _read(run.out, evals)
        except DataError as error:
            if (run.arm, run.base, run.seed) not in known:
                again = f"remove the directory {run.out}, and --resume makes it again"
                why = f"{UNREAD}: {error_line(error)}; {again}"
                unread.append(Failure(arm=run.arm, base=run.base, seed=run.seed, why=why))
    done = [run for run in runs if run.out in spent]
    declared = study.model_dump(mode="json", include={"arms"})["arms"]
    arms = {
        arm: _arm(settings, [run for run in runs if run.arm == arm], spent)
        for arm, settings in declared.items()
    }
    means = {arm: row.spent for arm, row in arms.items()}
    unequal = unequal_budgets(study.budget, means, baseline=study.baseline)
    manifest = stored_manifest(out)
    primary = primary_result(study, manifest)
    finished = Finished(study, done, evals)
    rows = compare_arms(finished, means, unequal, first_declared(study, manifest))
    if caution := rule_caution(primary):
        rows = [row.with_(why="; ".join(filter(None, [row.why, caution]))) for row in rows]
    return StudyResults(
        format=RESULTS_FORMAT,
        study=study.study,
        claim=study.claim,
        declared=manifest.fingerprints.declared,
        changes=manifest.changes,
        commit=manifest.commit,
        dirty=manifest.dirty,
        command=manifest.command,
        bases=list(study.bases),
        seeds=list(study.seeds),
        primary=primary,
        meaningful=study.meaningful,
        interval=study.interval,
        budget=BudgetResult(**study.budget.model_dump(), unequal=unequal),
        comparisons=rows,
        pgr=recovered_gaps(finished),
        arms=arms,
        failed=sorted([*failures, *unread], key=lambda one: bool(one.preparation)),
        unfinished=len(runs) - len(done),
    )


def _read(place: Path, evals: Evals) -> Spent:
    """What a run cost; everything else that is taken from it is read too, to fail here."""
    evals.data(place)
    _round_rows(place)
    evals[place]
    return spent_by(place)


def _arm(
    settings: dict[str, JsonValue], runs: Sequence[PlannedRun], spent: Mapping[Path, Spent]
) -> ArmResult:
    done = [run for run in runs if run.out in spent]
    costs = [vars(spent[run.out]) for run in done]
    return ArmResult(
        settings=settings,
        planned=len(runs),
        finished=len(done),
        spent=MeanSpent(**{name: _mean([c[name] for c in costs]) for name in Spent.model_fields}),
        rounds=_rounds([run.out for run in done]),
        runs=[
            RunResult(base=run.base, seed=run.seed, out=str(run.out), **cost)
            for run, cost in zip(done, costs, strict=True)
        ],
    )


def _rounds(places: Sequence[Path]) -> list[dict[str, float | None]]:
    """Of methods that go in rounds: each round's numbers, means over the runs that reached it."""
    by_number: dict[float | None, list[Mapping[str, float | None]]] = {}
    for place in places:
        for row in _round_rows(place):
            by_number.setdefault(row["round"], []).append(row)
    return [
        {key: _mean([v for row in rows if (v := row.get(key)) is not None]) for key in rows[0]}
        | {"round": number}
        for number, rows in by_number.items()
    ]


def _round_rows(place: Path) -> list[Mapping[str, float | None]]:
    """The numbers of each round of a run; parts that are objects are left out."""
    path = place / "stages" / ROUNDS
    rows: list[Mapping[str, float | None]] = []
    for line, row in read_jsonl(path) if path.exists() else []:
        numbers = {key: value for key, value in row.items() if not isinstance(value, dict)}
        known = all(isinstance(value, int | float | None) for value in numbers.values())
        if "round" not in row or not known:
            raise DataError(f"{path}:{line} is not a round", got=row, wanted="'round' and numbers")
        rows.append(numbers)
    return rows


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
