"""What arms must have in common, or a difference between them is not what the study says it is.

The same budget, the same start, the same questions; and settings that differ at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from rekindle.engine.config import TaskConfig
from rekindle.errors import ConfigError
from rekindle.evals.evaluate import metric_names
from rekindle.methods.catalog import find_method
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.tasks.sources import is_hub_id
from rekindle.training.parts import open_task

_PASS_AT = re.compile(r"pass@([1-9][0-9]{0,8})")
_SAME_MODEL = "arms begin with the same weights, and their models are prompted in the same way"
_SAME_PROBLEMS = "a paired difference needs the same problems and the same decoding"
_NO_MATTER = ("log", "checkpoint", "device")  # sections that change no weight


def check_runs(study: Study, runs: Sequence[PlannedRun]) -> None:
    """Refuse runs that could not be compared as the study says.

    Raises:
        ConfigError: arms that wait for each other, budgets, evaluations or models that differ, arms
            that do not, a metric or level that would not be measured.
    """
    _check_order(runs)
    check_budget = _check_updates if study.budget.unit == "updates" else _check_tokens
    check_budget(study, runs)
    _check_evaluation(study, runs)
    _check_differ(study, runs)
    _check_measured(study, next(run for run in runs if run.arm == study.baseline))


def _check_tokens(study: Study, runs: Sequence[PlannedRun]) -> None:
    """A budget of tokens ends every run."""
    unit = study.budget.unit
    if study.budget.at_most is None:
        raise ConfigError(
            f"the budget is in {unit} tokens, and budget.at_most is missing",
            wanted="the tokens that each run may spend",
            why="without it nothing would end a run, and arms would spend what they like",
            fix="add budget.at_most, or let budget.unit be updates",
        )
    for run in runs:
        method = run.recipe.shared.method
        if unit == "generated" and find_method(method).kind in ("sft", "pairs"):
            raise ConfigError(
                f"arm '{run.arm}' generates no tokens, and they are the budget",
                got=f"method: {method}",
                why="nothing would end it, and it would spend none of what the others spend",
                fix="let budget.unit be trained or updates",
            )


def _check_updates(study: Study, runs: Sequence[PlannedRun]) -> None:
    """Arms of one stage with other numbers of updates cannot be compared at equal updates."""
    limit, updates = study.budget.at_most, planned_updates(runs)
    for run in runs:
        steps = run.recipe.shared.optim.steps
        if limit is not None and updates.get(run.arm, steps) > limit:
            raise ConfigError(
                f"arm '{run.arm}' would take more updates than the budget",
                got=_steps_and_updates(runs, run.arm),
                wanted=f"at most {limit} (budget.at_most)",
                fix="lower optim.steps, or raise the budget for all arms",
            )
    first = study.baseline if study.baseline in updates else next(iter(updates), "")
    pairs = [(first, arm) for arm in updates]
    if limit is not None:  # then an arm that is compared with no other may take fewer
        pairs = [(pair.baseline, pair.arm) for pair in study.pairs()]
    for one, other in pairs:
        if not {one, other} <= updates.keys():
            continue
        if abs(updates[other] / updates[one] - 1) > study.budget.tolerance:
            raise ConfigError(
                f"arms '{one}' and '{other}' would take other numbers of updates",
                got=f"{updates[one]} and {updates[other]} updates, "
                f"{_steps_and_updates(runs, one, other)}",
                wanted=f"the same, or within {study.budget.tolerance:g} of it (budget.tolerance)",
                why="the budget is in updates: a longer training is another claim, and the "
                "comparison would end without a verdict",
                fix="give both arms as many updates; or, if tokens are what should be equal, let "
                "budget.unit be trained or generated, with budget.at_most",
            )


def planned_updates(runs: Sequence[PlannedRun]) -> dict[str, int]:
    """Arm -> how many updates a run of it takes; arms for which the recipe does not tell are left
    out."""
    return {run.arm: _updates(run) for run in runs if _one_stage(run)}


def max_generated_tokens(runs: Sequence[PlannedRun]) -> dict[str, int]:
    """Arm -> the tokens that a run of it can generate in its steps, each answer as long as it may
    be; arms for which the recipe does not tell are left out."""
    most = {}
    for run in runs:
        shared, settings = run.recipe.shared, run.recipe.method.model_dump()
        if find_method(shared.method).kind == "group":
            again = 1 + float(settings.get("extra_rollouts", 0.0))
            answers = shared.optim.problems * int(settings["group_size"]) * again
            tokens = shared.optim.steps * answers * shared.sample.max_new_tokens
            most[run.arm] = math.ceil(tokens)
    return most


def _updates(run: PlannedRun) -> int:
    settings = run.recipe.method.model_dump()
    per_step = settings.get("minibatches", 1) * settings.get("epochs", 1)
    return run.recipe.shared.optim.steps * int(per_step)


def _steps_and_updates(runs: Sequence[PlannedRun], *arms: str) -> str:
    """The settings that the updates of arms come from."""
    steps = {run.arm: run.recipe.shared.optim.steps for run in runs}
    more = {run.arm: _updates(run) // steps[run.arm] for run in runs if _one_stage(run)}
    text = f"optim.steps {' and '.join(str(steps[arm]) for arm in arms)}"
    if any(more.get(arm, 1) > 1 for arm in arms):
        text += f", of {' and '.join(str(more[arm]) for arm in arms)} updates each"
    return text


def _one_stage(run: PlannedRun) -> bool:
    """Whether `optim.steps` is how often a run steps; stages and token limits make it another."""
    optim = run.recipe.shared.optim
    limited = optim.max_generated is not None or optim.max_trained is not None
    return not has_stages(run) and not limited


def has_stages(run: PlannedRun) -> bool:
    """Whether a run's method makes its own data, stage after stage, and so takes its own time."""
    return find_method(run.recipe.shared.method).kind == "stages"


def _check_evaluation(study: Study, runs: Sequence[PlannedRun]) -> None:
    """All arms answer the same problems, in the same way, or no difference is a pair's."""
    beside = {
        (run.base, run.seed): _evaluation_settings(run) for run in runs if run.arm == study.baseline
    }
    for run in runs:
        wanted = beside[run.base, run.seed]  # a preparation may give each base its own data
        for part, value in _evaluation_settings(run).items():
            if value != wanted[part]:
                raise ConfigError(
                    f"arm '{run.arm}' would be evaluated in another way than '{study.baseline}'",
                    got=f"{part}: {value}",
                    wanted=f"{part}: {wanted[part]}",
                    why=_SAME_MODEL if part == "model" else _SAME_PROBLEMS,
                    fix=f"set '{part}' in the study's recipe, for all arms",
                )


def _evaluation_settings(run: PlannedRun) -> Mapping[str, object]:
    shared = run.recipe.shared
    sampled = shared.sample.model_dump(exclude={"batch_size"})
    task = shared.task.model_dump(include={"name", "path", "levels", "verifier", "timeout"})
    # The mix weighs levels in training draws alone.
    task["args"] = {key: value for key, value in shared.task.args.items() if key != "mix"}
    model = shared.model.model_dump(exclude={"device"})
    return {"eval": shared.eval.model_dump(), "sample": sampled, "task": task, "model": model}


def _check_differ(study: Study, runs: Sequence[PlannedRun]) -> None:
    """What is compared differs in something that can matter."""
    settings: dict[str, Mapping[str, object]] = {}
    for run in runs:
        tree = run.recipe.resolved().items()
        of_arm = {key: part for key, part in tree if key not in _NO_MATTER}
        settings.setdefault(run.arm, of_arm)  # of one base and seed
    for pair in study.pairs():
        if settings[pair.arm] == settings[pair.baseline]:
            raise ConfigError(
                f"arms '{pair.baseline}' and '{pair.arm}' have the same settings",
                why="runs of one seed draw the same problems and answers: the difference would be "
                "0 by construction",
                fix="set what is compared in one of them, or compare others",
            )


def _check_order(runs: Sequence[PlannedRun]) -> None:
    """Every run can begin once others are finished."""
    arm_of = {run.out: run.arm for run in runs}
    waits_for = {run.arm: {arm_of[p] for p in run.needs if p in arm_of} for run in runs}
    try:
        TopologicalSorter(waits_for).prepare()
    except CycleError as error:
        arms = [str(arm) for arm in reversed(error.args[1])]
        raise ConfigError(
            "arms wait for each other's runs",
            got=" needs ".join(arms),
            why="none of them could begin",
            fix="take {run:...} out of one of them",
        ) from error


def _check_measured(study: Study, run: PlannedRun) -> None:
    """Every metric and level that is compared is one that evaluation gives."""
    shared = run.recipe.shared
    config = shared.eval
    names = metric_names(
        config.samples, temperatures=config.temperatures, likelihood=config.likelihood
    )
    wanted = [("primary", study.primary.metric, study.primary.level)]
    wanted += [("secondary", m, level) for m in study.secondary for level in study.levels]
    levels = config.levels or shared.task.levels
    if not levels and any(level is not None for *_, level in wanted):
        levels = _levels_of(shared.task)  # reads the task's files
    for where, metric, level in wanted:
        at = _PASS_AT.fullmatch(metric)
        if metric not in names and not (at and int(at[1]) <= config.samples):
            raise ConfigError(
                f"{where}: '{metric}' would not be measured",
                got=f"eval: {config.samples} samples, temperatures {list(config.temperatures)}, "
                f"likelihood {str(config.likelihood).lower()}",
                wanted=f"one of: {', '.join(names)}",
                why="it would be missed only after everything has run",
                fix=_how_to_measure(metric, config.samples),
            )
        if level is not None and levels is not None and level not in levels:
            raise ConfigError(
                f"{where}: level '{level}' would not be evaluated",
                wanted=f"one of: {', '.join(levels)}"
                if any(levels)
                else "no level: there are none",
                why="eval.levels, task.levels or the task itself has no other",
                fix="name one of these, or add it to 'eval.levels' in the study's recipe",
            )


def _levels_of(config: TaskConfig) -> tuple[str, ...] | None:
    """The levels that a task has; None where its data is not on this machine."""
    elsewhere = config.name in ("hub", "gym") or is_hub_id(config.name)
    missing = config.name == "jsonl" and not config.places()
    if elsewhere or missing or not all(Path(place).exists() for place in config.places()):
        return None
    return open_task(config.model_copy(update={"levels": None})).levels


def _how_to_measure(metric: str, samples: int) -> str:
    at = re.fullmatch(r"(pass|avg|maj)@([0-9]{1,9})", metric)
    if at and (int(at[2]) > samples or at[1] != "pass"):
        return f"set eval.samples to {at[2]} in the study's recipe, or name another metric"
    if "@t" in metric:
        return "name its temperature in eval.temperatures of the study's recipe"
    if metric.partition("@")[0] in ("chain_prob", "nll", "brier"):
        return "set eval.likelihood in the study's recipe"
    return "name another metric"
