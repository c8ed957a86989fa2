"""Which runs of a study can stand side by side: the same data, problems and metric, read once.

Runs of one base and seed are set beside each other, two arms of a comparison or three of a
performance gap. Each such set is checked by itself, and then beside the others: all must have the
same problems, from the same data. Sets that do not fit are left out and named; a set that is left
out is a missing pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rekindle.errors import DataError, RekindleError
from rekindle.evals.compare import refuse_unlike, values_of
from rekindle.evals.reading import Eval, read_eval
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.store.layout import MANIFEST, damaged, read_head

Key = tuple[str, int]  # base, seed
_NAMED = 3  # sets that are named with a reason; of more, how many
OTHER_DATA = "the data was changed between runs: most runs of the study had other files"
OTHER_PROBLEMS = "most runs of the study had other problems"
DOUBTFUL = "as many pairs had other data or problems as those that were kept, or more"
UNSCORED = "no problem has a score of it in {all} arms"


class Evals(dict[Path, Eval]):
    """Run directory -> the content of its eval.json, read once; `data`: the hash of its data."""

    def __init__(self) -> None:
        super().__init__()
        self._data: dict[Path, Hashable] = {}

    def __missing__(self, place: Path) -> Eval:
        self[place] = read_eval(place / "eval.json")
        return self[place]

    def data(self, place: Path) -> Hashable:
        """The fingerprint of a run's data as its manifest has it; None where it has none."""
        if place not in self._data:
            hashes = read_head(place).fingerprints
            if hashes is None:
                raise damaged(place / MANIFEST, "no 'fingerprints'", "'fingerprints', an object")
            self._data[place] = hashes.get("data")
        return self._data[place]


class Finished(NamedTuple):
    """The finished runs of a study, and how they were evaluated."""

    study: Study
    runs: Sequence[PlannedRun]
    evals: Evals


class MatchedRuns(NamedTuple):
    """Base and seed -> the runs that can stand side by side, and what was left out."""

    sets: dict[Key, tuple[PlannedRun, ...]]
    why: list[str]
    doubtful: bool  # as many sets, or more, had other data or problems as those that were kept


def matched_runs(
    finished: Finished, arms: Sequence[str], metric: str, level: str | None
) -> MatchedRuns:
    """The sets of finished runs of `arms` in which `metric` can be compared."""
    evals = finished.evals
    by_arm = [
        {(run.base, run.seed): run for run in finished.runs if run.arm == arm} for arm in arms
    ]
    sets = {
        key: tuple(runs[key] for runs in by_arm)
        for key in by_arm[0]
        if all(key in runs for runs in by_arm)
    }
    reasons: dict[Key, str] = {}
    for key, runs in sets.items():
        try:
            _check(runs, evals, metric, level)
        except DataError as error:
            reasons[key] = error_line(error)
    fits = {key: runs for key, runs in sets.items() if key not in reasons}
    # A preparation may give each base data of its own: hashes are compared where settings are the
    # same, problems everywhere.
    doubtful, data = False, dict[str, dict[Key, Hashable]]()
    for key, runs in fits.items():
        data.setdefault(repr(runs[0].recipe.shared.task), {})[key] = evals.data(runs[0].out)
    for hashes in data.values():
        outliers, tied = _outliers(hashes)
        reasons |= dict.fromkeys(outliers, OTHER_DATA)
        doubtful |= tied
    fits = {key: runs for key, runs in fits.items() if key not in reasons}
    outliers, tied = _outliers(
        {key: _problems_of(evals[runs[0].out]) for key, runs in fits.items()}
    )
    reasons |= dict.fromkeys(outliers, OTHER_PROBLEMS)
    fits = {key: runs for key, runs in fits.items() if key not in reasons}
    why = _left_out(reasons, of=len(sets))
    if doubtful or tied:
        why.append(DOUBTFUL)
    return MatchedRuns(fits, why, doubtful or tied)


def error_line(error: RekindleError) -> str:
    """An error as one line: what is wrong, and what was found."""
    got = "" if error.got is None else str(error.got)
    got = got if len(got) <= 120 else got[:119] + "…"
    return f"{error.what}, got {got}" if got else error.what


def _check(runs: Sequence[PlannedRun], evals: Evals, metric: str, level: str | None) -> None:
    """Raises DataError where runs of one base and seed cannot be compared with each other."""
    if len({evals.data(run.out) for run in runs}) > 1:
        these = "a pair" if len(runs) == 2 else "one base and seed"
        raise DataError(f"the data was changed between runs: those of {these} had other files")
    for run in runs[1:]:
        refuse_unlike(evals[runs[0].out], evals[run.out])
    samples = [evals[run.out]["n_samples"] for run in runs]
    if len(set(samples)) > 1:
        raise DataError(
            "the runs answered each problem another number of times",
            got=" and ".join(map(str, samples)),
        )
    values, lacking = [], {}
    for run in runs:
        try:
            values.append(values_of(evals[run.out], metric, level))
        except DataError as error:
            lacking[run.arm] = error
    if lacking:
        what = next(iter(lacking.values())).what
        in_some = "" if len(lacking) == len(runs) else f" in {' and '.join(lacking)}"
        raise DataError(what + in_some)
    if not bool((~np.isnan(np.sum(values, axis=0))).any()):
        raise DataError(UNSCORED.format(all="both" if len(runs) == 2 else "all three"))


def _problems_of(evaluation: Eval) -> Hashable:
    problems = tuple((problem["id"], problem["level"]) for problem in evaluation["problems"])
    return evaluation["task"], evaluation["split"], evaluation["n_samples"], problems


def _outliers(marks: Mapping[Key, Hashable]) -> tuple[list[Key], bool]:
    """The keys whose mark is not the most frequent one; whether they are as many as the rest."""
    if not marks:
        return [], False
    usual, count = Counter(marks.values()).most_common(1)[0]
    others = [key for key, mark in marks.items() if mark != usual]
    return others, len(others) >= count


def _left_out(reasons: Mapping[Key, str], *, of: int) -> list[str]:
    """Each reason with the bases and seeds that it holds for; alone where it holds for all."""
    whose: dict[str, list[str]] = {}
    for (base, seed), reason in reasons.items():
        whose.setdefault(reason, []).append(f"{base} seed {seed}")
    if len(whose) == 1 and len(reasons) == of:
        return list(whose)
    lines = []
    for reason, names in whose.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"left out {', '.join(names[:_NAMED])}{more}: {reason}")
    return lines
