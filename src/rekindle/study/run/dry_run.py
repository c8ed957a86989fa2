"""What is known of a study before it runs, in words: what it could find, spend, and has left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rekindle.evals.compare import LOWER_IS_BETTER
from rekindle.evals.crossed import SPREADS, minimum_detectable, noise_of
from rekindle.study.plan.fairness import most_generated, planned_updates
from rekindle.study.plan.study_file import Planned, Study, preparations
from rekindle.study.run.preflight import problems_asked
from rekindle.study.run.runner import Work
from rekindle.study.store.claim import Mode
from rekindle.study.store.layout import MANIFEST
from rekindle.study.store.relocate import known_roots

_ONE_PAIR = (
    "one base model and one seed: a pair of runs never gets a verdict, however large its "
    "difference; give more seeds or bases"
)
_WHOSE = (
    "(in the committed studies: arms that do nearly the same, that train another way, on other "
    "data)"
)


def detectable(study: Study, runs: Sequence[Planned]) -> str:
    """The differences that a study of this size would find, where the metric's spread is known."""
    metric, samples = study.primary.metric, runs[0].recipe.shared.eval.samples
    if len(study.bases) * len(study.seeds) == 1:
        return _ONE_PAIR
    alone = len(study.bases) == 1
    between = "seeds" if alone else "base models"
    if metric.partition("@")[0] in LOWER_IS_BETTER:
        return (
            f"how far a difference in {metric} varies between {between} is not known before (what "
            "the committed studies tell is of accuracies), and so not which one would be found; a "
            "look at the same arms on dev problems (eval.split: dev) tells it"
        )
    problems, counted = problems_asked(study, runs[0])
    least = [
        minimum_detectable(
            n_bases=len(study.bases),
            n_seeds=len(study.seeds),
            n_problems=problems,
            spread=spread,
            noise_sd=noise_of(metric, samples),
        )
        for spread in SPREADS
    ]
    spreads = [f"{spread.seed if alone else spread.base:g}" for spread in SPREADS]
    found = [f"{value:.3f}" for value in least if value < 1]  # they grow with the spread
    start = f"with {problems} problems{'' if counted else ', if there are as many,'}"
    size = "would be found in 8 of 10 studies of this size"
    if not found:
        return (
            f"{start} no difference {size}, not even the largest that there can be, where it "
            f"varies between {between} by {_or(spreads)} {_WHOSE}; give more {between}"
        )
    none = spreads[len(found) :]
    not_where = f", and none where it varies by {_or(none)}" if none else ""
    return (
        f"{start} a difference of {_or(found)} {size}, where it varies between {between} by "
        f"{_or(spreads[: len(found)])}{not_where} {_WHOSE}"
    )


def short_of_budget(study: Study, runs: Sequence[Planned]) -> list[str]:
    """The arms that cannot spend what the budget makes equal, as far as their recipes tell."""
    unit, limit = study.budget.unit, study.budget.at_most
    if limit is None:
        return []
    due = math.ceil(limit * (1 - study.budget.tolerance))
    if unit == "updates":
        return [
            f"arm '{arm}' takes {taken:,} of the budget's {limit:,} updates, and will be named as "
            "unequal; lower budget.at_most or raise its optim.steps"
            for arm, taken in planned_updates(runs).items()
            if taken < due
        ]
    if unit == "generated":
        return [
            f"arm '{arm}' can generate at most {most:,} tokens in its optim.steps, and the budget "
            f"is {limit:,}: it ends before it has spent it; raise its optim.steps"
            for arm, most in most_generated(runs).items()
            if most < due
        ]
    return []


def left_to_run(study: Study, out: Path, runs: Sequence[Planned], *, mode: Mode) -> str:
    """How many runs are finished, and what would run now.

    Raises:
        DataError: what the study or a run wrote in `out` is damaged.
    """
    if mode == "overwrite":
        begun = len(list(out.glob(f"runs/*/*/*/{MANIFEST}")))
        return f"to run: {_many(len(runs), 'run')}; {_many(begun, 'run')} that are there would go"
    work = Work(list(runs), preparations(study, out))
    work.look(known_roots(out))
    done = sum(run.out in work.done for run in runs)
    before = sum(job.recipe is None for job in work.waiting())
    ahead = f" and {_many(before, 'preparation')}" if before else ""
    what = (
        f"to run: {_many(len(runs) - done, 'run')}{ahead}"
        if done < len(runs)
        else ("nothing is left to run")
    )
    return f"finished: {done} of {_many(len(runs), 'run')}; {what}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _or(items: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
