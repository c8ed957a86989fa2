"""From a recipe to a finished run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rekindle.engine.config import SampleConfig, TaskConfig
from rekindle.engine.device import Group, process_group, seed_everything, set_threads
from rekindle.engine.fingerprints import source_fingerprint, weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.engine.run import Run
from rekindle.engine.sampler import Samplers, SamplerSource, check_source, sampler_for
from rekindle.errors import ConfigError
from rekindle.loops.evaluation import Evaluation
from rekindle.loops.logbook import Logbook
from rekindle.loops.reward_scores import Graders, open_scorer
from rekindle.loops.world import World
from rekindle.methods.catalog import find_method, method_module
from rekindle.rewards.judge import Judge, ScorerJudge
from rekindle.rewards.python_reward import PythonReward, Reward, is_place, load_reward
from rekindle.rewards.reward_model import Scorer
from rekindle.tasks import Task, load_task
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.tasks.own import Rewarded, TaskSource, check_ids, own_task
from rekindle.tasks.task import pick_levels
from rekindle.training.recipe import Recipe, RecipeSource, recipe_of

Mode = Literal["new", "resume", "overwrite"]


def train(
    recipe: RecipeSource,
    out: Path | str,
    *,
    reward: Reward | None = None,
    task: TaskSource | None = None,
    sampler: SamplerSource | None = None,
    judge: Judge | Reward | None = None,
    overrides: Sequence[str] = (),
    mode: Mode = "new",
    command: str = "",
    quiet: bool | None = None,
    policy: Policy | None = None,
) -> Path:
    """Run a recipe in a run directory; returns `out/final`, the model in Hugging Face layout.

    Args:
        recipe: what to do: the path of a YAML file, a mapping with its keys, or a checked recipe.
        out: the run directory.
        reward: grades answers instead of the task's verifier, in training and evaluation: a
            callable `(problems, texts) -> scores`, one finite number or None (missing) an answer,
            in order; 1 counts as right. An object may also have `fingerprint()`, a text that
            identifies it; of a function that is its source. A resumed run must have the same.
        task: instead of `task.name`: rows (mappings with `prompt` and `answer`; with a reward the
            answer may be left out, and other columns are in `problem.meta`), rows by split, or an
            object with the members of `rekindle.Task`.
        sampler: where all rollouts come from: an object with `sync(policy)` and `sample(problems,
            samples, config, seed)`, or a function from a policy to one; None: the library's.
        judge: for methods whose section says `judge.source: callable`: a callable as `reward`, or
            an object with `judge` and `fingerprint`.
        overrides: `section.key=value`, as `--set` on the command line.
        mode: `new` refuses a directory that exists, `resume` goes on from the newest complete
            checkpoint, `overwrite` starts again.
        command: recorded in the manifest.
        quiet: no progress; None: shown on a terminal.
        policy: a model in memory instead of `model.name`.

    Raises:
        RekindleError: with what was got, what was wanted, and what to do. After an error of the
            reward in a step, the last finished step is kept: `mode="resume"` goes on from there.
        SystemExit: with `errors.EXIT_RESUMABLE` after SIGTERM or SIGINT, a checkpoint written.
    """
    recipe, judge = recipe_of(recipe, overrides), own_judge(judge)
    sampler = sampler_for if sampler is None else sampler
    check_source(sampler)
    _refuse_idle_judge(recipe, judge)
    group = process_group(recipe.shared.model.device)
    recipe, task = _with_own_parts(recipe, task, reward)
    shared = recipe.shared
    verifier = task.reward if isinstance(task, Rewarded) else None
    if policy is None:
        policy = Policy.load(shared.model)
        model_hash = source_fingerprint(policy)
    else:
        model_hash = weights_fingerprint(policy)
    scorer = open_scorer(shared.reward, task, device=shared.model.device)
    parts = (("data", task), ("verifier", verifier), ("reward", scorer), ("judge", judge))
    fingerprints = {name: part.fingerprint() for name, part in parts if part is not None}
    run = Run.open(
        Path(out),
        config=recipe.resolved(),
        fingerprints={**fingerprints, "model": model_hash},
        mode=mode,
        command=command,
        quiet=quiet,
        group=group,
    )
    with run:
        if run.finished:
            return Path(out) / "final"
        parameters = sum(p.numel() for p in policy.model.parameters())
        set_threads(shared.device.threads, parameters=parameters)
        seed_everything(shared.seed, deterministic=shared.device.deterministic)
        world = make_world(
            recipe,
            policy=policy,
            task=task,
            run=run,
            group=group,
            scorer=scorer,
            judge=judge,
            sampler=sampler,
        )
        trained: Policy = method_module(shared.method).run(recipe.method, world)
        run.finish(trained.save)  # not the policy that it was given, where there are stages
    return Path(out) / "final"


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


def _with_own_parts(
    recipe: Recipe, task: TaskSource | None, reward: Reward | None
) -> tuple[Recipe, Task]:
    """The recipe's task or the caller's, graded by the caller's reward where there is one; and the
    recipe with the name of what was opened."""
    config, held_out = recipe.shared.task, recipe.shared.eval
    place = config.verifier if config.verifier and is_place(config.verifier) else None
    if reward is not None and place is not None:
        raise ConfigError(
            "there are two rewards",
            got=f"reward=... and task.verifier: {place}",
            wanted="one: both say how answers are graded",
            fix="remove one of them",
        )
    if task is None:
        found = open_task(config, needs_answer=reward is None)
        return recipe, found if reward is None else Rewarded(found, PythonReward.of(reward))
    found = own_task(
        task,
        verifier=None if place else config.verifier,
        needs_answer=reward is None and place is None,
    )
    named = "name" in config.model_fields_set and config.name != found.name
    if named or config.path is not None or config.args:
        raise ConfigError(
            "there are two tasks",
            got=f"task=... and task.name: {config.name}",
            wanted="one: both say which problems are trained on",
            fix="remove task.name, task.path and task.args from the recipe, or task=...",
        )
    pick_levels(found.name, found.levels, config.levels)
    levels = held_out.levels or config.levels
    check_ids(found, split=held_out.split, count=held_out.problems, levels=levels, seed=0)
    if reward is not None:
        found = Rewarded(found, PythonReward.of(reward))
    elif place is not None:
        found = Rewarded(found, load_reward(place))
    renamed = config.model_copy(update={"name": found.name})
    return replace(recipe, shared=recipe.shared.model_copy(update={"task": renamed})), found


def own_judge(judge: Judge | Reward | None) -> Judge | None:
    """A judge as it is, or a callable as one."""
    if judge is None or isinstance(judge, Judge):
        return judge
    return ScorerJudge(PythonReward.of(judge))


def open_task(config: TaskConfig, *, needs_answer: bool = True) -> Task:
    """The task that a recipe or command names."""
    return load_task(
        config.name,
        levels=config.levels,
        path=config.path,
        verifier=config.verifier,
        timeout=config.timeout,
        workers=config.workers,
        args=config.args,
        needs_answer=needs_answer,
    )


def make_world(
    recipe: Recipe,
    *,
    policy: Policy,
    task: Task,
    run: Run,
    group: Group,
    scorer: Scorer | None = None,
    judge: Judge | None = None,
    sampler: SamplerSource = sampler_for,
) -> World:
    """The world of a recipe around a loaded policy, task, reward model, judge and sampler."""
    shared = recipe.shared
    brittle = shared.task.brittle
    return World(
        policy=policy,
        task=task,
        levels=shared.task.levels,
        run=run,
        group=group,
        seed=shared.seed,
        optim=shared.optim,
        sample=sampling(shared.sample, task),
        samplers=Samplers(sampler),
        graders=Graders(
            verifier=BrittleVerifier(task, brittle) if brittle else None,
            scorer=scorer,
            judge=judge,
            max_missing=shared.task.max_missing,
            max_missing_rm=shared.reward.max_missing,
        ),
        evaluation=Evaluation(shared.eval),
        logbook=Logbook(shared.log),
    )


def sampling(config: SampleConfig, task: Task) -> SampleConfig:
    """Where the recipe is silent, the task says how long answers are and what ends them."""
    limits = {"max_new_tokens": task.max_new_tokens, "stop": task.stop}
    unset = limits.keys() - config.model_fields_set
    return config.model_copy(update={name: limits[name] for name in unset})
