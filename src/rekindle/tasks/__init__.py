"""Problems, disjoint splits, and how an answer is checked: generated tasks, files, hub, gym."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from rekindle.errors import ConfigError, did_you_mean
from rekindle.rewards.python_reward import is_place, load_reward
from rekindle.rewards.verify import AS_READ, VERSION, Settings
from rekindle.rewards.workers import POOLED
from rekindle.tasks import addition, chain, countdown
from rekindle.tasks.gym import load_gym
from rekindle.tasks.hub import load_hub
from rekindle.tasks.jsonl import load_jsonl
from rekindle.tasks.own import Rewarded
from rekindle.tasks.rows import Listed
from rekindle.tasks.task import Task, pick_levels, refuse_unknown

__all__ = ["KNOWN", "Task", "load_task"]

KNOWN = {
    "countdown": "reach a target with all numbers; many solutions, replayed exactly (levels 3-5)",
    "chain": "operations one after the other; one answer (levels 2-4)",
    "addition": "long addition with a scratchpad; one solution (levels 2-5 digits)",
    "jsonl": "your file: prompt, answer, optional solution, messages, id, level (task.path)",
    "hub": "a `datasets` id or directory: task.args.dataset, .config, .columns (extra [hub])",
    "gym": "any reasoning-gym dataset: task.args.dataset, .instruction, its settings (extra [gym])",
}


def load_task(
    name: str,
    *,
    levels: Sequence[str] | None = None,
    path: str | None = None,
    verifier: str | None = None,
    args: Mapping[str, object] | None = None,
    timeout: float | None = None,
    workers: int | None = None,
    read: Literal["any", "marked"] = "any",
    cut: Literal["wrong", "missing"] = "wrong",
    unevaluated: Literal["accept", "reject"] = "accept",
    verifier_version: int = VERSION,
    needs_answer: bool = True,
) -> Task:
    """A task by name.

    Args:
        name: one of `KNOWN`.
        levels: checked against the task's; the caller passes them on to `draw` and `problems`.
        path: the file or directory of `jsonl`.
        verifier: `exact`, `numeric`, `math` (extra [math]) or `code`, for `jsonl` and `hub`; for
            any task `package.module:function`, a reward in Python (`rewards.python_reward`).
        timeout, workers: of `math` and `code`: seconds an answer or test case, and processes.
        read: `marked`: a text without a mark states no answer.
        cut: what an answer is that the token limit cut off.
        unevaluated: of `math`: whether 2^10 counts where the gold is 1024.
        verifier_version: of `exact`, `numeric` and `math`.
        needs_answer: rows of `jsonl` and `hub` must have something to check an answer against.
        args: the task's own settings; a generated task takes `mix` (level -> weight in training).

    Raises:
        ConfigError: unknown task, level or setting, or a setting without effect.
    """
    if name not in KNOWN:
        raise ConfigError(f"unknown task '{name}'", fix=did_you_mean(name, KNOWN))
    if path is not None and name != "jsonl":
        raise ConfigError(f"task.path has no effect with task '{name}'", got=path, fix="remove it")
    reward = None
    if verifier is not None and is_place(verifier):
        reward, verifier, needs_answer = load_reward(verifier), None, False
    if verifier is not None and name not in ("jsonl", "hub"):
        raise ConfigError(
            f"task.verifier has no effect with task '{name}'",
            got=verifier,
            why="the task has its own verifier",
            fix="remove it",
        )
    task = _load(name, path, verifier or "numeric", args or {}, needs_answer)
    task = _with_workers(task, timeout, workers)
    how = AS_READ._replace(
        marked=read == "marked", evaluate=unevaluated == "accept", version=verifier_version
    )
    task = _with_reading(task, how, cut)
    pick_levels(name, task.levels, levels)
    return task if reward is None else Rewarded(task, reward)


def _load(
    name: str, path: str | None, verifier: str, settings: Mapping[str, object], needs_answer: bool
) -> Task:
    if name == "jsonl":
        refuse_unknown(name, settings, ())
        return load_jsonl(path, verifier=verifier, needs_answer=needs_answer)
    if name == "hub":
        return load_hub(settings, verifier=verifier, needs_answer=needs_answer)
    if name == "gym":
        return load_gym(settings)
    refuse_unknown(name, settings, ("mix",))
    mix = _mix(settings.get("mix"))
    task = {"countdown": countdown.TASK, "chain": chain.TASK, "addition": addition.TASK}[name]
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


def _with_reading(task: Task, how: Settings, cut: Literal["wrong", "missing"]) -> Task:
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
