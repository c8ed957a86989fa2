"""Problems, disjoint splits, and how an answer is checked: generated tasks, files, hub, gym."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from rekindle.errors import ConfigError, did_you_mean
from rekindle.rewards.python_reward import is_place, load_reward
from rekindle.rewards.verifiers.verify import AS_READ, VERSION
from rekindle.rewards.workers import POOLED
from rekindle.tasks import addition, chain, countdown, sums
from rekindle.tasks.checks import tell_golds
from rekindle.tasks.gym import load_gym
from rekindle.tasks.own import Rewarded
from rekindle.tasks.rows import Cut, Listed
from rekindle.tasks.sources import is_data, is_hub_id
from rekindle.tasks.stored import SharedRows, load_stored
from rekindle.tasks.task import Task, pick_levels, refuse_unknown

__all__ = ["KNOWN", "Task", "load_task"]

KNOWN = {
    "countdown": "reach a target with all numbers; many solutions, replayed exactly (levels 3-5)",
    "chain": "operations one after the other; one answer (levels 2-4)",
    "addition": "long addition with a scratchpad; one solution (levels 2-5 digits)",
    "sums": "a sum after two solved ones, for pretrained models; one answer (levels 2-4 digits)",
    "jsonl": "your data (task.path): JSONL, JSON, CSV, parquet; or give the path as the name",
    "hub": "a `datasets` id or directory: task.args.dataset, .config, .splits (extra [hub])",
    "gym": "any reasoning-gym dataset: task.args.dataset, .instruction, its settings (extra [gym])",
}


def load_task(
    name: str,
    *,
    levels: Sequence[str] | None = None,
    path: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    shared_rows: SharedRows = "refuse",
    verifier: str | None = None,
    args: Mapping[str, object] | None = None,
    timeout: float | None = None,
    workers: int | None = None,
    read: Literal["any", "marked"] = "any",
    cut: Cut = "wrong",
    unevaluated: Literal["accept", "reject"] = "accept",
    verifier_version: int = VERSION,
    needs_answer: bool = True,
) -> Task:
    """A task by name, or by the place of its data.

    Args:
        name: one of `KNOWN`, a file, pattern or directory of data, or a hub id (`tasks.sources`).
        levels: checked against the task's; the caller passes them on to `draw` and `problems`.
        path: the file, files or directory of `jsonl`.
        columns: of data: field -> column, where names do not say it; dots lead into columns.
        shared_rows: of data: refuse problems that splits share, or only tell of them.
        verifier: `exact`, `numeric`, `math` (extra [math]) or `code`, for data; for any task
            `package.module:function`, a reward in Python (`rewards.python_reward`).
        timeout, workers: of `math` and `code`: seconds an answer or test case, and processes.
        read, cut, unevaluated, verifier_version: of `exact`, `numeric`, `math`; see `TaskConfig`.
        needs_answer: rows of data must have something to check an answer against.
        args: the task's own settings; generated ones take `mix` (level -> weight in training).

    Raises:
        ConfigError, DataError: no such task, level or setting; no effect; data of no use.
    """
    stored = _is_stored(name)
    reward = None
    if verifier is not None and is_place(verifier):
        reward, verifier, needs_answer = load_reward(verifier), None, False
    _refuse_idle(name, "path", None if name == "jsonl" else path)
    task: Task
    if stored:
        task = load_stored(
            name,
            _places(name, path),
            args or {},
            columns=columns or {},
            verifier=verifier or "numeric",
            needs_answer=needs_answer,
            shared_rows=shared_rows,
        )
    else:
        idle = {"columns": columns, "shared_rows": shared_rows != "refuse", "verifier": verifier}
        task = _generated(name, args or {}, idle)
    task = _with_workers(task, timeout, workers)
    task = _with_reading(task, read, unevaluated, verifier_version, cut)
    pick_levels(name, task.levels, levels)
    if reward is None:
        tell_golds(task)
    return task if reward is None else Rewarded(task, reward)


def _is_stored(name: str) -> bool:
    """Whether the problems are rows of data, not made by a generator."""
    stored = name in ("jsonl", "hub") or (name not in KNOWN and (is_data(name) or is_hub_id(name)))
    if name not in KNOWN and not stored:
        raise ConfigError(f"unknown task '{name}'", fix=did_you_mean(name, KNOWN))
    return stored


def _refuse_idle(name: str, setting: str, value: object, why: str | None = None) -> None:
    if value:
        what = f"task.{setting} has no effect with task '{name}'"
        raise ConfigError(what, got=value, why=why, fix="remove it")


def _places(name: str, path: str | Sequence[str] | None) -> list[str]:
    """Where the data of a task lies; nowhere for a hub's dataset."""
    if name == "hub":
        return []
    if name != "jsonl":
        return [name]
    if not path:
        raise ConfigError(
            "task 'jsonl' needs a file", fix="--set task.path=data.jsonl (or a directory of splits)"
        )
    return [path] if isinstance(path, str) else [str(one) for one in path]


def _generated(name: str, settings: Mapping[str, object], idle: Mapping[str, object]) -> Task:
    for setting, value in idle.items():
        why = "the task has its own verifier" if setting == "verifier" else None
        _refuse_idle(name, setting, value, why=why)
    if name == "gym":
        return load_gym(settings)
    refuse_unknown(name, settings, ("mix",))
    mix = _mix(settings.get("mix"))
    generated = (countdown.TASK, chain.TASK, addition.TASK, sums.TASK)
    task = next(task for task in generated if task.name == name)
    pick_levels(name, task.levels, list(mix))
    return replace(task, mix=mix)


def _with_workers(task: Task, timeout: float | None, workers: int | None) -> Task:
    if timeout is None and workers is None:
        return task
    if not isinstance(task, Listed) or task.verifier not in (*POOLED, "code"):
        raise ConfigError(
            f"task.{'workers' if timeout is None else 'timeout'} has no effect here",
            why="answers are checked in this process, in microseconds",
            fix="remove it, or --set task.verifier=math (or code)",
        )
    return replace(task, timeout=timeout or task.timeout, workers=workers)


def _with_reading(task: Task, read: str, unevaluated: str, version: int, cut: Cut) -> Task:
    how = AS_READ._replace(
        marked=read == "marked", evaluate=unevaluated == "accept", version=version
    )
    if isinstance(task, Listed) and task.verifier != "code":
        return replace(task, reading=how, cut=cut)
    if how != AS_READ or cut != "wrong":
        raise ConfigError(
            "task.read, task.cut, task.unevaluated and task.verifier_version have no effect here",
            why=f"task '{task.name}' has a check of its own",
            fix="remove them",
        )
    return task


def _mix(given: object) -> dict[str, float]:
    if given is None:
        return {}
    weights = given if isinstance(given, Mapping) else {}
    fine = all(isinstance(w, int | float) and 0 <= w < math.inf for w in weights.values())
    if not fine or not sum(weights.values()):
        raise ConfigError(
            "task.args.mix is not a mix of levels",
            got=given,
            wanted="weights of 0 or more by level, not all 0, such as {3: 0.5, 4: 0.5}",
        )
    return {str(level): float(weight) for level, weight in weights.items()}
