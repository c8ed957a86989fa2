"""What a study file alone tells: which differences it could find, and which arms fall short."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rekindle.evals.compare import LOWER_IS_BETTER
from rekindle.evals.crossed import SPREADS, minimum_detectable, noise_of
from rekindle.study.plan.fairness import max_generated_tokens, planned_updates
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.run.preflight import count_problems

_ONE_PAIR = (
    "one base model and one seed: a pair of runs never gets a verdict, however large its "
    "difference; give more seeds or bases"
)
_WHOSE = (
    "(in the committed studies: arms that do nearly the same, that train another way, on other "
    "data)"
)


def detectable(study: Study, runs: Sequence[PlannedRun]) -> str:
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
    problems, counted = count_problems(study, runs[0])
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


def short_of_budget(study: Study, runs: Sequence[PlannedRun]) -> list[str]:
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
            for arm, most in max_generated_tokens(runs).items()
            if most < due
        ]
    return []


def _or(items: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
