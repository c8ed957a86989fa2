"""Evaluate a model on a task: what `rekindle eval` does.

Settings are checked before torch is loaded: a mistake is answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rekindle.engine.config import (
    DeviceConfig,
    EvalConfig,
    ModelConfig,
    SampleConfig,
    Section,
    TaskConfig,
)
from rekindle.errors import ConfigError
from rekindle.records import Split
from rekindle.training.recipe import checked, with_overrides

if TYPE_CHECKING:
    from rekindle.engine.policy import Policy
    from rekindle.evals.reading import Eval
    from rekindle.rewards.python_reward import Reward
    from rekindle.tasks import Task
    from rekindle.tasks.own import TaskSource


class EvalSettings(Section):
    """What `--set` reaches in `rekindle eval`."""

    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    sample: SampleConfig = SampleConfig()
    eval: EvalConfig = EvalConfig()
    device: DeviceConfig = DeviceConfig()


class WeakContrast(NamedTuple):
    """A weaker model, and c of the logits z + c (z - z_weak)."""

    weak: str
    strength: float


S = TypeVar("S", bound=EvalSettings)


def settings_of(kind: type[S], model: str, task: str, overrides: Sequence[str]) -> S:
    """Settings of a model and a task, by its name or by the place of its data.

    Raises:
        ConfigError: an override that cannot be meant.
        DataError: `task` looks like a path, and there is no such file.
    """
    from rekindle.tasks.sources import task_place

    where = task_place(task)
    problems = {"problems": 200}  # more than during training: nothing waits for it
    tree = {"model": {"name": model}, "task": where, "eval": problems}
    settings = checked(kind, with_overrides(tree, overrides), "")
    if settings.model.lora is not None:
        raise ConfigError(
            "model.lora has no effect here",
            why="it makes a fresh adapter, which changes nothing until it is trained",
            fix="--set model.adapter=DIR for one that was trained, or remove it",
        )
    return settings


def evaluate(
    model: str | Path | Policy,
    task: str | Path | TaskSource,
    *,
    reward: Reward | None = None,
    split: Split = "test",
    samples: int | None = None,
    problems: int | None = None,
    levels: Sequence[str] | None = None,
    seed: int = 0,
    contrast: WeakContrast | None = None,
    overrides: Sequence[str] = (),
    quiet: bool | None = None,
) -> Eval:
    """Sample answers to a task's problems, grade them, and summarise: the content of eval.json.

    Args:
        model: testbed/<name>, a directory, a hub id, or a loaded policy.
        task: a task's name, a file of data, a directory of splits, rows, or a `rekindle.Task`.
        reward: grades answers instead of the task's verifier, as in `train`.
        samples, problems, levels: answers to a problem, problems a level; None: 8, 200, all levels.
        seed, contrast: of problems and draws; a weaker model, whose logits it is pushed away from.
        overrides, quiet: settings as `section.key=value`; True: no lines on standard error.

    `["metrics"]["pass@1"]` has `value`, `ci_low`, `ci_high` (95 %) and `n`, the problems.

    Raises:
        ConfigError, DataError, ModelError: a setting, the task or the model cannot be used.
    """
    loaded = None if isinstance(model, str | Path) else model
    own = None if isinstance(task, str | Path) else task
    name = str(model) if loaded is None else loaded.config.name
    named = str(task) if own is None else TaskConfig().name
    settings = settings_of(EvalSettings, name, named, overrides)
    samples, problems = _counts(settings, samples, problems)
    from rekindle.engine.sampler import sampler_for
    from rekindle.evals.evaluate import evaluate as measure
    from rekindle.training.parts import graded_task, sampling
    from rekindle.training.train import prepare_device

    opened = graded_task(settings.task, own, reward, loaded or settings.model)
    names = levels or settings.eval.levels or settings.task.levels
    ask = lambda one: one.problems(split, count=problems, seed=seed, levels=names)  # noqa: E731
    ask(opened)  # what is wrong with them is told before the model is loaded
    policy, name = _load_policy(settings.model, contrast, loaded, quiet=quiet)
    kept = _within_limit(settings, policy, opened, split, quiet=quiet)
    prepare_device(settings.device, policy, seed)
    return measure(
        ask(kept),
        sampler=sampler_for(policy),
        task=kept,
        sample_config=sampling(settings.sample, kept),
        samples=samples,
        seed=seed,
        split=split,
        model=name,
        temperatures=settings.eval.temperatures,
        policy=policy if settings.eval.likelihood else None,
        quiet=quiet,
    )


def _within_limit(
    settings: EvalSettings, policy: Policy, task: Task, split: Split, *, quiet: bool | None
) -> Task:
    """The task without the prompts of the split that are too long."""
    from rekindle.engine.progress import say
    from rekindle.engine.prompt_limit import PromptLimit, keep_task
    from rekindle.training.parts import sampling

    limit = PromptLimit.of(policy, settings.task, sampling(settings.sample, task))
    kept = keep_task(limit, task, splits=[split])
    for sentence in () if quiet is True else kept.left_out:
        say(f"data: {sentence}")
    return kept.task


def _load_policy(
    config: ModelConfig,
    contrast: WeakContrast | None,
    loaded: Policy | None,
    *,
    quiet: bool | None,
) -> tuple[Policy, str]:
    """What is evaluated, and what it is called."""
    from rekindle.engine.contrast import ContrastPolicy
    from rekindle.engine.policy import Policy
    from rekindle.engine.progress import say

    if quiet is not True and loaded is None:
        say(f"loading {config.name}")
    policy, name = loaded or Policy.load(config, use="evaluation"), config.name
    if contrast is None:
        return policy, name
    weak, strength = contrast
    other = Policy.load(config.with_name(weak), use="evaluation")
    both = ContrastPolicy.between(policy, other, strength)
    return both, f"{name} + {strength:g} (it - {weak})"


def _counts(settings: EvalSettings, samples: int | None, problems: int | None) -> tuple[int, int]:
    samples = settings.eval.samples if samples is None else samples
    problems = settings.eval.problems if problems is None else problems
    if samples < 1 or problems < 1:
        raise ConfigError(
            "--samples and --problems must be at least 1", got=f"{samples} and {problems}"
        )
    if samples > 1 and settings.sample.temperature == 0:
        raise ConfigError(
            "several samples at temperature 0",
            got=f"--samples {samples}, sample.temperature 0",
            wanted="--samples 1, or a temperature above 0",
            why="greedy answers to one problem are all the same, so pass@k would say nothing",
        )
    return samples, problems
