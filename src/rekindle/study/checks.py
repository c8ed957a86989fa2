"""What a study file cannot mean, refused before anything runs.

Arms that would be evaluated in different ways, and metrics that would not be measured, would come
out only after everything had run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from rekindle.errors import ConfigError, did_you_mean
from rekindle.evals.evaluate import metric_names

if TYPE_CHECKING:
    from rekindle.study.design import Planned, Study

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PASS_AT = re.compile(r"pass@([0-9]{1,9})")


def check_runs(study: Study, runs: Sequence[Planned]) -> None:
    """Refuse runs that could not be compared as the study says.

    Raises:
        ConfigError: arms that wait for each other, too many updates, evaluations that differ, a
            metric or level that would not be measured.
    """
    _check_order(runs)
    _check_updates(study, runs)
    _check_evaluation(study, runs)
    _check_measured(study, next(run for run in runs if run.arm == study.baseline))


def check_study(study: Study) -> None:
    """Refuse names, comparisons, seeds and bases that cannot be meant.

    Raises:
        ConfigError: which, and why.
    """
    for name in [*study.arms, *study.prepare, *study.models]:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot name an arm, preparation or model",
                wanted="letters, digits, . _ + -",
                why="it becomes a directory",
            )
    named = {"baseline": study.baseline, "primary.arm": study.primary.arm}
    if study.primary.baseline is not None:
        named["primary.baseline"] = study.primary.baseline
    if study.pgr is not None:
        named |= {"pgr.weak": study.pgr.weak, "pgr.ceiling": study.pgr.ceiling}
    for i, pair in enumerate(study.comparisons):
        named[f"comparisons.{i}.arm"] = pair.arm
        named[f"comparisons.{i}.baseline"] = pair.baseline
    for where, arm in named.items():
        if arm not in study.arms:
            raise ConfigError(f"{where} is not an arm", got=arm, fix=did_you_mean(arm, study.arms))
    if study.pgr is not None and study.pgr.weak == study.pgr.ceiling:
        raise ConfigError("pgr.weak and pgr.ceiling are the same arm", got=study.pgr.weak)
    for pair in study.pairs():
        if pair.arm == pair.baseline:
            raise ConfigError(
                f"'{pair.arm}' is compared with itself",
                why="the difference would be 0 by construction",
                fix="name another arm or baseline",
            )
    for what, values in (("seeds", study.seeds), ("bases", study.bases)):
        if len(set(values)) < len(values):
            raise ConfigError(
                f"{what} has one twice",
                got=list(values),
                why="the same run counted twice would make the interval too narrow",
            )
    unused = [name for name in study.models if name not in study.bases]
    if unused:
        raise ConfigError(
            f"models.{unused[0]} is not among the bases", fix="add it to 'bases', or remove it"
        )
    held = [key for key in ("seed",) if key in study.recipe]
    held += [f"arms.{arm}.seed" for arm, tree in study.arms.items() if "seed" in tree]
    if held:
        raise ConfigError(
            f"{held[0]} is set", why="a study takes its seeds from 'seeds'", fix="remove it"
        )


def _check_order(runs: Sequence[Planned]) -> None:
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


def _check_updates(study: Study, runs: Sequence[Planned]) -> None:
    """Arms of one stage with other numbers of steps cannot have the same number of updates."""
    if study.budget.unit != "updates":
        return
    limit = study.budget.at_most
    for run in runs:
        steps = run.recipe.shared.optim.steps
        if limit is not None and steps > limit:
            raise ConfigError(
                f"arm '{run.arm}' would take more updates than the budget",
                got=f"optim.steps {steps}",
                wanted=f"at most {limit} (budget.at_most)",
                fix="lower optim.steps, or raise the budget for all arms",
            )


def _check_evaluation(study: Study, runs: Sequence[Planned]) -> None:
    """All arms answer the same problems, in the same way, or no difference is a pair's."""
    first = next(run for run in runs if run.arm == study.baseline)

    def asked(run: Planned) -> dict[str, Any]:
        shared = run.recipe.shared
        sampled = shared.sample.model_dump(exclude={"batch_size"})
        task = shared.task.model_dump(include={"name", "path", "levels", "verifier", "timeout"})
        # The mix weighs levels in training draws alone.
        task["args"] = {key: value for key, value in shared.task.args.items() if key != "mix"}
        return {"eval": shared.eval.model_dump(), "sample": sampled, "task": task}

    for run in runs:
        for part, value in asked(run).items():
            if value != asked(first)[part]:
                raise ConfigError(
                    f"arm '{run.arm}' would be evaluated in another way than '{first.arm}'",
                    got=f"{part}: {value}",
                    wanted=f"{part}: {asked(first)[part]}",
                    why="a paired difference needs the same problems and the same decoding",
                    fix=f"set '{part}' in the study's recipe, for all arms",
                )


def _check_measured(study: Study, run: Planned) -> None:
    """Every metric and level that is compared is one that evaluation gives."""
    shared = run.recipe.shared
    config = shared.eval
    names = metric_names(
        config.samples, temperatures=config.temperatures, likelihood=config.likelihood
    )
    levels = config.levels or shared.task.levels
    wanted = [("primary", study.primary.metric, study.primary.level)]
    wanted += [("secondary", m, level) for m in study.secondary for level in study.levels]
    for where, metric, level in wanted:
        at = _PASS_AT.fullmatch(metric)
        if metric not in names and not (at and 1 <= int(at[1]) <= config.samples):
            raise ConfigError(
                f"{where}: '{metric}' would not be measured",
                got=f"eval: {config.samples} samples, temperatures {list(config.temperatures)}, "
                f"likelihood {str(config.likelihood).lower()}",
                wanted=f"one of: {', '.join(names)}",
                why="it would be missed only after everything has run",
                fix=_what_gives(metric, config.samples),
            )
        if level is not None and levels is not None and level not in levels:
            raise ConfigError(
                f"{where}: level '{level}' would not be evaluated",
                wanted=f"one of: {', '.join(levels)} (eval.levels or task.levels)",
                fix="name one of these, or add it to 'eval.levels' in the study's recipe",
            )


def _what_gives(metric: str, samples: int) -> str:
    at = re.fullmatch(r"(pass|avg|maj)@([0-9]{1,9})", metric)
    if at and (int(at[2]) > samples or at[1] != "pass"):
        return f"set eval.samples to {at[2]} in the study's recipe, or name another metric"
    if "@t" in metric:
        return "name its temperature in eval.temperatures of the study's recipe"
    if metric.partition("@")[0] in ("chain_prob", "nll", "brier"):
        return "set eval.likelihood in the study's recipe"
    return "name another metric"
