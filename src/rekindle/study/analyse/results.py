"""The content of study.json: what was compared, what each arm cost, and what went wrong.

A finished run that cannot be read is one that failed, with the reason and what to do; the rest is
still summed up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.methods.self_rewarding.rounds import ROUNDS
from rekindle.study.analyse.matched_runs import Evals, told
from rekindle.study.analyse.spending import Spent, spent_by, unequal_budgets
from rekindle.study.analyse.verdicts import compared_all, recovered_by
from rekindle.study.plan.study_file import Planned, Study
from rekindle.study.schema import RESULTS_FORMAT
from rekindle.study.store.declaration import beside_verdicts, declared_first, primary_told
from rekindle.study.store.layout import MANIFEST, is_finished, read_object
from rekindle.study.store.read import stored_manifest

__all__ = ["Failure", "Spent", "spent_by", "study_results", "unequal_budgets"]


UNREAD = "it is finished and cannot be read"  # how the reason of such a failure begins


class Failure(NamedTuple):
    """A run that did not finish, and why."""

    arm: str
    base: str
    seed: int
    why: str


def study_results(
    study: Study, out: Path, runs: Sequence[Planned], failures: Sequence[Failure]
) -> dict[str, Any]:
    """The content of study.json; undefined numbers are null there.

    Raises:
        DataError: the study's own manifest is damaged.
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
                why = f"{UNREAD}: {told(error)}; {again}"
                unread.append(Failure(run.arm, run.base, run.seed, why))
    done = [run for run in runs if run.out in spent]
    arms = {arm: _arm(study, arm, runs, done, spent) for arm in study.arms}
    means = {arm: row["spent"] for arm, row in arms.items()}
    unequal = unequal_budgets(study.budget, means, baseline=study.baseline)
    manifest = stored_manifest(out)
    primary, first = primary_told(study, manifest), declared_first(study, manifest)
    rows = compared_all(study, done, evals, means, unequal, first)
    for row in rows:
        row["why"] = "; ".join(filter(None, [row["why"], beside_verdicts(primary)]))
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
        "primary": primary,
        "meaningful": study.meaningful,
        "interval": study.interval,
        "budget": {**study.budget.model_dump(mode="json"), "unequal": unequal},
        "comparisons": rows,
        "pgr": recovered_by(study, done, evals),
        "arms": arms,
        "failed": [failure._asdict() for failure in [*failures, *unread]],
        "unfinished": len(runs) - len(done),
    }


def _read(place: Path, evals: Evals) -> Spent:
    """What a run cost; everything else that is taken from it is read too, to fail here."""
    read_object(place / MANIFEST, fingerprints=dict)
    _round_rows(place)
    evals.data(place)
    evals[place]
    return spent_by(place)


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
        for row in _round_rows(place):
            found.setdefault(row["round"], []).append(row)
    out = []
    for number, rows in found.items():
        keys = [key for key, value in rows[0].items() if not isinstance(value, dict)]
        means = {k: _mean([row[k] for row in rows if row.get(k) is not None]) for k in keys}
        out.append({**means, "round": number})
    return out


def _round_rows(place: Path) -> list[dict[str, Any]]:
    path = place / "stages" / ROUNDS
    rows = read_jsonl(path) if path.exists() else []
    for line, row in rows:
        values = [value for value in row.values() if not isinstance(value, dict)]
        if "round" not in row or not all(isinstance(v, int | float | None) for v in values):
            raise DataError(f"{path}:{line} is not a round", got=row, wanted="'round' and numbers")
    return [row for _, row in rows]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
