"""Before any run begins: which inputs are missing, and what a study of this size can tell.

Not part of `plan`: a study is planned, archived and read also where its data and models are not.
What the study makes itself, and what only the network knows, is not looked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rekindle.engine.loading import missing_directory
from rekindle.errors import ConfigError, DataError, RekindleError
from rekindle.evals.compare import LOWER_IS_BETTER
from rekindle.evals.crossed import SPREADS, minimum_detectable, noise_of
from rekindle.records import Problem
from rekindle.study.plan.fairness import max_generated_tokens, planned_updates
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.store.layout import is_finished
from rekindle.testbed import located
from rekindle.training.parts import open_task

_ELSEWHERE = ("hub", "gym")  # tasks whose problems need the network, or an extra
_ONE_PAIR = (
    "one base model and one seed: a pair of runs never gets a verdict, however large its "
    "difference; give more seeds or bases"
)
_WHOSE = (
    "(in the committed studies: arms that do nearly the same, that train another way, on other "
    "data)"
)


def check_inputs(study: Study, runs: Sequence[PlannedRun]) -> None:
    """ConfigError where the task, level, data files or models of an unfinished run are missing."""
    seen = set[str]()
    for run in runs:
        if is_finished(run.out):
            continue
        models = set(_models(study, run))
        problems = repr((run.recipe.shared.task, run.recipe.shared.eval))
        try:
            for name in sorted(models - seen):
                located(name)
                error = missing_directory(name)
                if error is not None and not _made_first(name, run.needs):
                    raise error
            if problems not in seen:
                evaluation_problems(run)
        except RekindleError as refusal:
            raise ConfigError(f"arm '{run.arm}': {refusal}") from refusal
        seen |= {*models, problems}


def evaluation_problems(run: PlannedRun) -> list[Problem] | None:
    """What a run is evaluated on; None where that is made first, or not on this machine.

    Raises:
        ConfigError: there is no such task, level or setting.
        DataError: a file is missing or broken, or holds no problem of the split.
    """
    shared = run.recipe.shared
    task = shared.task
    if task.name in _ELSEWHERE or any(_made_first(path, run.needs) for path in task.places()):
        return None
    return open_task(task).problems(
        shared.eval.split,
        count=shared.eval.problems,
        seed=0,
        levels=shared.eval.levels or task.levels,
    )


def count_problems(study: Study, run: PlannedRun) -> tuple[int, bool]:
    """On how many problems the declared comparison rests, and whether they could be counted.

    Where not, it is `eval.problems` for each level.
    """
    level, shared = study.primary.level, run.recipe.shared
    try:
        problems = evaluation_problems(run)
    except (ConfigError, DataError):  # of a finished run: its data may be gone
        problems = None
    if problems is not None:
        return sum(level in (None, problem.level) for problem in problems), True
    levels = shared.eval.levels or shared.task.levels or ("all",)
    return shared.eval.problems * (1 if level is not None else len(levels)), False


def _models(study: Study, run: PlannedRun) -> Iterator[str]:
    """The names of the models that a run loads."""
    if run.base not in study.models:
        yield run.recipe.shared.model.name
    if run.recipe.shared.reward.model is not None:
        yield run.recipe.shared.reward.model
    yield from _weak_in(run.recipe.method.model_dump())


def _weak_in(section: Mapping[str, object]) -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _weak_in(value)
        elif key == "weak" and isinstance(value, str):
            yield value


def _made_first(path: str, needs: Sequence[Path]) -> bool:
    """Whether a path lies in what a preparation or another run leaves, and is not there yet."""
    if Path(path).exists():
        return False
    return any(Path(path).is_relative_to(place) for place in needs)


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
    detected = [f"{value:.3f}" for value in least if value < 1]  # they grow with the spread
    start = f"with {problems} problems{'' if counted else ', if there are as many,'}"
    size = "would be found in 8 of 10 studies of this size"
    if not detected:
        return (
            f"{start} no difference {size}, not even the largest that there can be, where it "
            f"varies between {between} by {_or(spreads)} {_WHOSE}; give more {between}"
        )
    none = spreads[len(detected) :]
    not_where = f", and none where it varies by {_or(none)}" if none else ""
    return (
        f"{start} a difference of {_or(detected)} {size}, where it varies between {between} by "
        f"{_or(spreads[: len(detected)])}{not_where} {_WHOSE}"
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
