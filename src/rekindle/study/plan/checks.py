"""What a study file cannot mean, refused before anything runs.

Arms that would be evaluated in different ways, and metrics that would not be measured, would come
out only after everything had run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from rekindle.errors import ConfigError, did_you_mean
from rekindle.evals.evaluate import metric_names
from rekindle.study.plan.base_models import check_made, same_model
from rekindle.study.plan.fairness import check_equal
from rekindle.study.plan.placeholders import NAME, RESERVED
from rekindle.training.parts import open_task

if TYPE_CHECKING:
    from rekindle.engine.config import TaskConfig
    from rekindle.study.plan.study_file import Planned, Study

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PASS_AT = re.compile(r"pass@([1-9][0-9]{0,8})")


def check_runs(study: Study, runs: Sequence[Planned]) -> None:
    """Refuse runs that could not be compared as the study says.

    Raises:
        ConfigError: arms that wait for each other, budgets, evaluations or models that differ, arms
            that do not, a metric or level that would not be measured.
    """
    _check_order(runs)
    check_equal(study, runs)
    _check_measured(study, next(run for run in runs if run.arm == study.baseline))


def check_study(study: Study) -> None:
    """Refuse names, comparisons, seeds, bases and settings that cannot be meant.

    Raises:
        ConfigError: which, and why.
    """
    _check_names(study)
    _check_comparisons(study)
    models = [base if base in study.models else same_model(base) for base in study.bases]
    for what, values, given in (
        ("seeds", study.seeds, study.seeds),
        ("bases", models, study.bases),
    ):
        if len(set(values)) < len(values):
            raise ConfigError(
                f"{what} has one twice",
                got=list(given),
                why="the same run counted twice would make the interval too narrow",
                fix="leave one of them out",
            )
    check_made({name: built.run for name, built in study.models.items()}, study.bases)
    _check_not_set(study)


def _check_names(study: Study) -> None:
    for name in [*study.arms, *study.prepare, *study.models]:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot name an arm, preparation or model",
                wanted="letters, digits, . _ + -",
                why="it becomes a directory",
            )
    for name in study.prepare:
        if name in RESERVED or not NAME.fullmatch(name):
            raise ConfigError(
                f"'{name}' cannot name a preparation",
                wanted="letters, digits and _, none of " + ", ".join(RESERVED),
                why=f"an arm takes its result as {{{name}}}"
                + (", which stands for something else" if name in RESERVED else ""),
                fix="give it another name",
            )


def _check_comparisons(study: Study) -> None:
    """Every comparison is of two arms that there are, and is made once."""
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
        raise ConfigError(
            "pgr.weak and pgr.ceiling are the same arm",
            got=study.pgr.weak,
            why="there would be no gap between them",
            fix="name another arm",
        )
    for pair in [*study.comparisons, *study.pairs()]:
        if pair.arm == pair.baseline:
            raise ConfigError(
                f"'{pair.arm}' is compared with itself",
                why="the difference would be 0 by construction",
                fix="name another arm or baseline",
            )
    # `pairs` leaves out the primary one where `comparisons` names it too, which is fine once.
    for pairs in (study.comparisons, study.pairs()):
        seen = set[frozenset[str]]()
        for pair in pairs:
            arms = frozenset((pair.arm, pair.baseline))
            if arms in seen:
                raise ConfigError(
                    f"'{pair.arm}' and '{pair.baseline}' are compared twice",
                    why="p-values are adjusted for the number of comparisons, and the other way "
                    "round is the same one",
                    fix="leave one of them out of 'comparisons'",
                )
            seen.add(arms)


def _check_not_set(study: Study) -> None:
    """What the study gives each run is set by none of its recipes."""
    trees = {"recipe": study.recipe} | {f"arms.{arm}": tree for arm, tree in study.arms.items()}
    for where, tree in trees.items():
        if "seed" in tree:
            raise ConfigError(
                f"{where}.seed is set", why="a study takes its seeds from 'seeds'", fix="remove it"
            )
        model = tree.get("model")
        if isinstance(model, Mapping) and "name" in model:
            raise ConfigError(
                f"{where}.model.name is set",
                got=model["name"],
                why="a study takes its models from 'bases', and every arm begins with each of them",
                fix="remove it; a model that is to be another one is a base",
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


def _check_measured(study: Study, run: Planned) -> None:
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
                fix=_what_gives(metric, config.samples),
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
    """The levels that a task has; None where it is not here to be asked."""
    elsewhere = config.name in ("hub", "gym")
    if elsewhere or (config.name == "jsonl" and not Path(config.path or "").exists()):
        return None
    return open_task(config.model_copy(update={"levels": None})).levels


def _what_gives(metric: str, samples: int) -> str:
    at = re.fullmatch(r"(pass|avg|maj)@([0-9]{1,9})", metric)
    if at and (int(at[2]) > samples or at[1] != "pass"):
        return f"set eval.samples to {at[2]} in the study's recipe, or name another metric"
    if "@t" in metric:
        return "name its temperature in eval.temperatures of the study's recipe"
    if metric.partition("@")[0] in ("chain_prob", "nll", "brier"):
        return "set eval.likelihood in the study's recipe"
    return "name another metric"
