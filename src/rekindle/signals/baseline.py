"""What a run directory says: rounds of self-rewarding, shares of groups, SFT's loss."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.methods.self_rewarding.rounds import ROUNDS
from rekindle.signals.run_curve import Curve, firsts_and_lasts, number, read_curve
from rekindle.signals.table import Row

_NUMBERS = ("pairs/gap", "pairs/similarity", "judge/auc", "judge/right")
_GROUPS = ("all_wrong", "mixed", "all_right")


class Baseline(NamedTuple):
    """`rounds` of stages/rounds.jsonl, each with its pairs' gaps in `gaps` and the number of its
    judged prompts in `prompts` where they were kept;
    `groups`: rows on the shares of groups in training; `sft`: of an SFT run; `group_size`: answers
    of a group in training; `task`, `model`: what config.yaml says it was trained on, None where
    that says nothing."""

    rounds: list[dict[str, Any]]
    groups: list[Row]
    sft: Curve | None = None
    group_size: int | None = None
    task: Mapping[str, Any] | None = None
    model: str | None = None


def read_baseline(directory: Path) -> Baseline:
    """Read a run.

    Raises:
        DataError: it is not a run, says nothing of a signal, or a number in it is none; file and
            line are named.
    """
    log, told = directory / "metrics.jsonl", directory / "stages" / ROUNDS
    if not log.exists():
        raise DataError(
            f"{directory} is not a run",
            got="no metrics.jsonl in it" if directory.is_dir() else "no directory",
            wanted="a directory that `rekindle train` has made, with metrics.jsonl in it",
            fix="check the path, or leave --run out",
        )
    steps = read_jsonl(log)
    rounds = _rounds(directory, told) if told.exists() else []
    groups = firsts_and_lasts(log, steps, [f"groups/{name}" for name in _GROUPS])
    groups = [row._replace(name=row.name.replace("run/groups/", "run/")) for row in groups]
    config = _config(directory)
    curve = None if groups or rounds else read_curve(directory, log, steps)
    if not rounds and not groups and curve is None:
        raise DataError(
            f"run {directory} says nothing of a signal",
            got=sorted({key for _, row in steps for key in row})[:20],
            wanted="a run of SFT, or of a group-relative or self-rewarding method",
            fix="leave --run out",
        )
    task, model = (config.get(name) for name in ("task", "model"))
    return Baseline(
        rounds,
        groups,
        curve,
        _group_size(config),
        task if isinstance(task, Mapping) and "name" in task else None,
        str(model["name"]) if isinstance(model, Mapping) and "name" in model else None,
    )


def check_alike(
    baseline: Baseline, directory: Path, *, task: Mapping[str, Any], model: str
) -> None:
    """A run of another task says nothing of this one; of another model it is said.

    Args:
        task: `name`, `path` and `levels` of what is diagnosed.
        model: its name or directory.

    Raises:
        DataError: the run is of another task.
    """
    theirs = baseline.task
    if theirs is not None and theirs["name"] != task["name"]:
        raise DataError(
            f"run {directory} is of another task",
            got=f"task '{theirs['name']}'",
            wanted=f"'{task['name']}', the task that is diagnosed",
            why="its shares of groups and its group size say nothing of these problems",
            fix="give a run of this task, or leave --run out",
        )
    unlike = [
        f"{key} {theirs.get(key)} (here {task.get(key)})"
        for key in ("path", "levels")
        if theirs is not None and _plain(theirs.get(key)) != _plain(task.get(key))
    ]
    if baseline.model is not None and baseline.model != model and not _inside(model, directory):
        unlike.append(f"model {baseline.model} (here {model})")
    if unlike:
        warnings.warn(f"run {directory} is of {', '.join(unlike)}", stacklevel=2)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _inside(model: str, directory: Path) -> bool:
    """Whether a model is one that the run has made."""
    return Path(model).exists() and Path(model).resolve().is_relative_to(directory.resolve())


def _rounds(directory: Path, told: Path) -> list[dict[str, Any]]:
    rounds = []
    for line, row in read_jsonl(told):
        kept: dict[str, Any] = {key: number(row, key, f"{told}:{line}") for key in _NUMBERS}
        pairs, judged = (
            sorted(told.parent.glob(f"*-{stage}-{row.get('round')}/rows.jsonl"))
            for stage in ("pairs", "judged")
        )
        if pairs:
            kept["gaps"] = _gaps(pairs[0])
        if judged:
            kept["prompts"] = len({str(row.get("id")) for _, row in read_jsonl(judged[0])})
        rounds.append(kept)
    return rounds


def _gaps(path: Path) -> list[float]:
    """Chosen minus rejected score of each pair of a round: one a prompt."""
    found = []
    for line, row in read_jsonl(path):
        sides = [number(row, f"{side}_score", f"{path}:{line}") for side in ("chosen", "rejected")]
        chosen, rejected = sides
        if chosen is not None and rejected is not None:
            found.append(chosen - rejected)
    return found


def _config(directory: Path) -> dict[str, Any]:
    place = directory / "config.yaml"
    if not place.is_file():
        return {}
    try:
        found = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"{place} cannot be read", got=str(error), fix="restore it, or leave --run out"
        ) from error
    return found if isinstance(found, dict) else {}


def _group_size(config: Mapping[str, Any]) -> int | None:
    """Of the method's section: `grpo.group_size` and the like."""
    sizes = [part.get("group_size") for part in config.values() if isinstance(part, Mapping)]
    return next((size for size in sizes if isinstance(size, int) and size > 1), None)
