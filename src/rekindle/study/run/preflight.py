"""Data files, models and levels that runs need: what is missing is reported before any run begins.

Not part of `plan`: a study is planned, archived and read also where its data and models are not.
What the study makes itself, and what only the network knows, is not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rekindle.engine.loading import missing_directory
from rekindle.errors import ConfigError, DataError, RekindleError
from rekindle.records import Problem
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.store.layout import is_finished
from rekindle.testbed import located
from rekindle.training.train import open_task

_ELSEWHERE = ("hub", "gym")  # tasks whose problems need the network, or an extra


def check_inputs(study: Study, runs: Sequence[PlannedRun]) -> None:
    """Refuse unfinished runs whose task, level, data files or models are missing.

    Raises:
        ConfigError: which arm, and the error of its run.
    """
    seen = set[str]()
    for run in runs:
        if is_finished(run.out):
            continue
        models = set(_models(study, run))
        problems = repr((run.recipe.shared.task, run.recipe.shared.eval))
        try:
            for name in sorted(models - seen):
                _check_model(name, run.needs)
            if problems not in seen:
                evaluation_problems(run)
        except RekindleError as error:
            raise ConfigError(f"arm '{run.arm}': {error}") from error
        seen |= {*models, problems}


def evaluation_problems(run: PlannedRun) -> list[Problem] | None:
    """What a run is evaluated on; None where that is made first, or not on this machine.

    Raises:
        ConfigError: there is no such task, level or setting.
        DataError: a file is missing or broken, or holds no problem of the split.
    """
    shared = run.recipe.shared
    task = shared.task
    if task.name in _ELSEWHERE or _made_first(task.path, run.needs):
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


def _check_model(name: str, needs: Sequence[Path]) -> None:
    located(name)
    error = missing_directory(name)
    if error is not None and not _made_first(name, needs):
        raise error


def _made_first(path: str | None, needs: Sequence[Path]) -> bool:
    """Whether a path lies in what a preparation or another run leaves, and is not there yet."""
    if path is None or Path(path).exists():
        return False
    return any(Path(path).is_relative_to(place) for place in needs)
