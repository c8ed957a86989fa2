"""What is asked of `rekindle diagnose`: its options, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rekindle.cli.diagnose_files import check_targets
from rekindle.cli.evaluate import EvalSettings, settings_of
from rekindle.engine.config import RewardConfig
from rekindle.errors import ConfigError, did_you_mean


class DiagnoseSettings(EvalSettings):
    """What `--set` reaches in `rekindle diagnose`."""

    reward: RewardConfig = RewardConfig()


class Asked(NamedTuple):
    """The options of the command line."""

    model: str
    task: str | None
    weak: str | None
    problems: int
    samples: int
    group_size: int | None
    levels: str | None
    check: str | None
    run: Path | None
    pairs: Path | None
    signals: str | None
    out: Path | None
    write: Path | None
    overwrite: bool


def check_asked(asked: Asked) -> tuple[str, ...] | None:
    """Refuse options that cannot be meant; the signals asked for by name, None for all there are.

    Raises:
        ConfigError, RunDirectoryError: which, and what to give.
    """
    for name, value in (("problems", asked.problems), ("samples", asked.samples)):
        if value < 2:
            raise ConfigError(
                f"--{name} is too small",
                got=value,
                wanted="2 or more",
                why="with one there is nothing to compare, and no interval",
                fix=f"leave --{name} out: it is {200 if name == 'problems' else 8} then",
            )
    if asked.group_size is not None and asked.group_size < 2:
        raise ConfigError(
            "--group-size is too small",
            got=asked.group_size,
            wanted="2 or more",
            why="a group of one has nothing to compare",
            fix="give the group size of your recipe",
        )
    read = (asked.pairs, None if asked.task is None else Path(asked.task))
    check_targets(asked.out, asked.write, read, asked.overwrite)
    if asked.signals is None:
        return None
    from rekindle.signals.table import ORDER

    wanted = _names(asked.signals, "signals", f"names of {', '.join(ORDER)}")
    for name in wanted:
        if name not in ORDER:
            raise ConfigError(
                f"there is no signal '{name}'",
                got=f"--signals {asked.signals}",
                wanted=f"names of {', '.join(ORDER)}, with commas between",
                fix=did_you_mean(name, ORDER),
            )
    return wanted


def settings_asked(asked: Asked, task: str, overrides: Sequence[str]) -> DiagnoseSettings:
    """Everything that `--set` reaches, with the levels that were asked for.

    Raises:
        ConfigError: a setting that cannot be meant, or greedy samples.
    """
    settings = settings_of(DiagnoseSettings, asked.model, task, overrides)
    if settings.sample.temperature == 0:
        raise ConfigError(
            "sample.temperature is 0",
            got="--set sample.temperature=0",
            wanted="a temperature above 0, as in training",
            why="greedy answers to one problem are all the same, so groups would say nothing",
            fix="--set sample.temperature=1.0",
        )
    if asked.levels is None:
        return settings
    names = _names(asked.levels, "levels", "levels of the task")
    narrowed = settings.task.model_copy(update={"levels": names})
    return settings.model_copy(update={"task": narrowed})


def _names(text: str, option: str, wanted: str) -> tuple[str, ...]:
    """The parts between commas.

    Raises:
        ConfigError: one is empty.
    """
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ConfigError(
            f"--{option} has an empty name",
            got=repr(text),
            wanted=f"{wanted}, with commas between",
            why="it would be read as all of them",
            fix=f"leave --{option} out for all",
        )
    return names
