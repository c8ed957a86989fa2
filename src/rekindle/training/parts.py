"""What a run is made from beside its models: the recipe's task and judge, or the caller's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rekindle.engine.config import ModelConfig, SampleConfig, TaskConfig
from rekindle.engine.loading import chats
from rekindle.engine.policy import Policy
from rekindle.engine.prompt_limit import PromptLimit, keep_task
from rekindle.engine.sampler import Samplers, SamplerSource, sampler_for
from rekindle.errors import ConfigError
from rekindle.methods.catalog import find_method
from rekindle.rewards.judge import Judge, ScorerJudge
from rekindle.rewards.python_reward import PythonReward, Reward, is_place
from rekindle.rewards.reward_model import Scorer
from rekindle.tasks import Task, load_task
from rekindle.tasks.own import Rewarded, TaskSource, check_ids, own_task
from rekindle.tasks.rows import Listed
from rekindle.tasks.task import pick_levels
from rekindle.training.recipe import Recipe


@dataclass(frozen=True)
class Parts:
    """A run's task, with the reward that grades it; its judge; where its rollouts come from."""

    task: Task
    judge: Judge | None
    samplers: Samplers
    limit: PromptLimit | None = None
    left_out: tuple[str, ...] = ()  # of the task, by the limit

    def within_limit(self, recipe: Recipe, policy: Policy) -> Parts:
        """The parts without the prompts that are too long for the recipe.

        Raises:
            ConfigError, DataError: as `PromptLimit.of` and `keep_task`.
        """
        shared = recipe.shared
        limit = PromptLimit.of(policy, shared.task, sampling(shared.sample, self.task))
        kept = keep_task(limit, self.task, least=shared.optim.problems)
        return replace(self, task=kept.task, limit=limit, left_out=kept.left_out)

    def fingerprints(self, scorer: Scorer | None) -> dict[str, str]:
        """Hashes of what decides the run's data and scores; a resumed run must find the same."""
        verifier = self.task.reward if isinstance(self.task, Rewarded) else None
        own = {"data": self.task, "verifier": verifier, "reward": scorer, "judge": self.judge}
        named = {name: part.fingerprint() for name, part in own.items() if part is not None}
        if isinstance(self.task, Listed):
            named["verifier"] = self.task.verifier_version
        return named


def open_parts(
    recipe: Recipe,
    *,
    reward: Reward | None = None,
    task: TaskSource | None = None,
    sampler: SamplerSource | None = None,
    judge: Judge | Reward | None = None,
    policy: Policy | None = None,
) -> tuple[Recipe, Parts]:
    """The parts of a run, opened and checked, and the recipe with the name of the task.

    `policy` is the caller's own, instead of the model that the recipe names.

    Raises:
        ConfigError: a part has no effect, is there twice, or is not what it should be.
        DataError: the task's data cannot be used.
    """
    samplers = Samplers(sampler_for if sampler is None else sampler)
    if judge is not None and not isinstance(judge, Judge):
        judge = ScorerJudge(PythonReward.of(judge))
    _refuse_idle_judge(recipe, judge)
    opened = graded_task(recipe.shared.task, task, reward, policy or recipe.shared.model)
    if task is not None:
        recipe = _with_own_task(recipe, opened)
    return recipe, Parts(opened, judge, samplers)


def graded_task(
    config: TaskConfig,
    source: TaskSource | None,
    reward: Reward | None,
    model: ModelConfig | Policy,
) -> Task:
    """The task of a recipe or the caller's own, graded by the caller's reward where there is one.

    Raises:
        ConfigError: two rewards, or a reward or task that is none.
        DataError: the task's data cannot be used.
    """
    verifier = config.verifier
    if reward is not None and verifier is not None and is_place(verifier):
        raise ConfigError(
            "there are two rewards",
            got=f"reward=... and task.verifier: {verifier}",
            wanted="one: both say how answers are graded",
            fix="remove one of them",
        )
    grader = None if reward is None else PythonReward.of(reward)
    if source is None:
        task = open_task(config, model, needs_answer=grader is None)
    else:
        task = own_task(source, verifier=verifier, needs_answer=grader is None)
    return task if grader is None else Rewarded(task, grader)


def open_task(
    config: TaskConfig, model: ModelConfig | Policy | None = None, *, needs_answer: bool = True
) -> Task:
    """The task that a recipe or command names, as `model` is asked it."""
    if config.name == "gym" and config.args.get("instruction") is None and model is not None:
        chat = chats(model) if isinstance(model, ModelConfig) else model.chats
        config = config.model_copy(update={"args": {**config.args, "instruction": chat}})
    elsewhere = {"max_missing", "brittle", "max_prompt_tokens", "long_prompts"}
    settings = config.model_dump(exclude=elsewhere)
    return load_task(**settings, needs_answer=needs_answer)


def sampling(config: SampleConfig, task: Task) -> SampleConfig:
    """Where the recipe is silent, the task says how long answers are and what ends them."""
    limits = {"max_new_tokens": task.max_new_tokens, "stop": task.stop}
    unset = limits.keys() - config.model_fields_set
    return config.model_copy(update={name: limits[name] for name in unset})


def _with_own_task(recipe: Recipe, task: Task) -> Recipe:
    """The recipe with the name of the caller's task, which is checked."""
    config, held_out = recipe.shared.task, recipe.shared.eval
    named = "name" in config.model_fields_set and config.name != task.name
    if named or config.path is not None or config.args:
        raise ConfigError(
            "there are two tasks",
            got=f"task=... and task.name: {config.name}",
            wanted="one: both say which problems are trained on",
            fix="remove task.name, task.path and task.args from the recipe, or task=...",
        )
    pick_levels(task.name, task.levels, config.levels)
    levels = held_out.levels or config.levels
    check_ids(task, split=held_out.split, count=held_out.problems, levels=levels, seed=0)
    renamed = config.model_copy(update={"name": task.name})
    return replace(recipe, shared=recipe.shared.model_copy(update={"task": renamed}))


def _refuse_idle_judge(recipe: Recipe, judge: Judge | None) -> None:
    section = recipe.resolved()[find_method(recipe.shared.method).section]
    source = (section.get("judge") or {}).get("source")
    if judge is not None and source != "callable":
        raise ConfigError(
            "a judge was given, and the recipe would not ask it",
            got=f"judge.source {source}" if source else f"method {recipe.shared.method}",
            wanted="judge.source: callable",
            why="the run would be judged by something else under this judge's name",
        )
