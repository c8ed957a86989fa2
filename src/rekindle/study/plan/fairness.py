"""What arms must have in common, or a difference between them is not what the study says it is.

The same budget, the same start, the same questions; and settings that differ at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rekindle.errors import ConfigError
from rekindle.methods.catalog import find_method

if TYPE_CHECKING:
    from rekindle.study.plan.study_file import Planned, Study

_NO_MATTER = ("log", "checkpoint", "device")  # sections that change no weight


def check_equal(study: Study, runs: Sequence[Planned]) -> None:
    """Refuse arms that could not be compared as the study says.

    Raises:
        ConfigError: budgets that would not be equal or are not enforced, evaluations or models
            that differ, arms that do not differ.
    """
    if study.budget.unit == "updates":
        _check_updates(study, runs)
    else:
        _check_tokens(study, runs)
    _check_evaluation(study, runs)
    _check_differ(study, runs)


def _check_tokens(study: Study, runs: Sequence[Planned]) -> None:
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


def _check_updates(study: Study, runs: Sequence[Planned]) -> None:
    """Arms of one stage with other numbers of updates cannot be compared at equal updates."""
    limit, updates = study.budget.at_most, planned_updates(runs)
    for run in runs:
        steps = run.recipe.shared.optim.steps
        if limit is not None and updates.get(run.arm, steps) > limit:
            raise ConfigError(
                f"arm '{run.arm}' would take more updates than the budget",
                got=_taken_from(runs, run.arm),
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
                got=f"{updates[one]} and {updates[other]} updates, {_taken_from(runs, one, other)}",
                wanted=f"the same, or within {study.budget.tolerance:g} of it (budget.tolerance)",
                why="the budget is in updates: a longer training is another claim, and the "
                "comparison would end without a verdict",
                fix="give both arms as many updates; or, if tokens are what should be equal, let "
                "budget.unit be trained or generated, with budget.at_most",
            )


def planned_updates(runs: Sequence[Planned]) -> dict[str, int]:
    """Arm -> how many updates a run of it takes; arms for which the recipe does not tell are left
    out."""
    return {run.arm: _updates(run) for run in runs if _one_stage(run)}


def most_generated(runs: Sequence[Planned]) -> dict[str, int]:
    """Arm -> the tokens that a run of it can generate in its steps, each answer as long as it may
    be; arms for which the recipe does not tell are left out."""
    return {run.arm: most for run in runs if (most := _most_tokens(run)) is not None}


def _most_tokens(run: Planned) -> int | None:
    shared, knobs = run.recipe.shared, run.recipe.method.model_dump()
    if find_method(shared.method).kind != "group":
        return None
    again = 1 + float(knobs.get("extra_rollouts", 0.0))
    answers = shared.optim.problems * int(knobs["group_size"]) * again
    return math.ceil(shared.optim.steps * answers * shared.sample.max_new_tokens)


def _updates(run: Planned) -> int:
    knobs = run.recipe.method.model_dump()
    per_step = knobs.get("minibatches", 1) * knobs.get("epochs", 1)
    return run.recipe.shared.optim.steps * int(per_step)


def _taken_from(runs: Sequence[Planned], *arms: str) -> str:
    """The settings that the updates of arms come from."""
    steps = {run.arm: run.recipe.shared.optim.steps for run in runs}
    more = {run.arm: _updates(run) // steps[run.arm] for run in runs if _one_stage(run)}
    told = f"optim.steps {' and '.join(str(steps[arm]) for arm in arms)}"
    if any(more.get(arm, 1) > 1 for arm in arms):
        told += f", of {' and '.join(str(more[arm]) for arm in arms)} updates each"
    return told


def _one_stage(run: Planned) -> bool:
    """Whether `optim.steps` is how often a run steps; stages and token limits make it another."""
    optim = run.recipe.shared.optim
    limited = optim.max_generated is not None or optim.max_trained is not None
    return not in_stages(run) and not limited


def in_stages(run: Planned) -> bool:
    """Whether a run's method makes its own data, stage after stage, and so takes its own time."""
    return find_method(run.recipe.shared.method).kind == "stages"


def _check_evaluation(study: Study, runs: Sequence[Planned]) -> None:
    """All arms answer the same problems, in the same way, or no difference is a pair's."""
    beside = {(run.base, run.seed): _asked(run) for run in runs if run.arm == study.baseline}
    for run in runs:
        wanted = beside[run.base, run.seed]  # a preparation may give each base its own data
        for part, value in _asked(run).items():
            if value != wanted[part]:
                raise _unlike(run.arm, study.baseline, part, value, wanted[part])


def _asked(run: Planned) -> dict[str, Any]:
    shared = run.recipe.shared
    sampled = shared.sample.model_dump(exclude={"batch_size"})
    task = shared.task.model_dump(include={"name", "path", "levels", "verifier", "timeout"})
    # The mix weighs levels in training draws alone.
    task["args"] = {key: value for key, value in shared.task.args.items() if key != "mix"}
    model = shared.model.model_dump(exclude={"device"})
    return {"eval": shared.eval.model_dump(), "sample": sampled, "task": task, "model": model}


def _unlike(arm: str, first: str, part: str, mine: object, theirs: object) -> ConfigError:
    if part == "model":
        why = "arms begin with the same weights, and their models are prompted in the same way"
    else:
        why = "a paired difference needs the same problems and the same decoding"
    return ConfigError(
        f"arm '{arm}' would be evaluated in another way than '{first}'",
        got=f"{part}: {mine}",
        wanted=f"{part}: {theirs}",
        why=why,
        fix=f"set '{part}' in the study's recipe, for all arms",
    )


def _check_differ(study: Study, runs: Sequence[Planned]) -> None:
    """What is compared differs in something that can matter."""
    settings: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        settings.setdefault(run.arm, _that_matter(run))  # of one base and seed
    for pair in study.pairs():
        if settings[pair.arm] == settings[pair.baseline]:
            raise ConfigError(
                f"arms '{pair.baseline}' and '{pair.arm}' have the same settings",
                why="runs of one seed draw the same problems and answers: the difference would be "
                "0 by construction",
                fix="set what is compared in one of them, or compare others",
            )


def _that_matter(run: Planned) -> Mapping[str, Any]:
    return {key: part for key, part in run.recipe.resolved().items() if key not in _NO_MATTER}
