"""From a recipe to a finished run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rekindle.engine.config import SampleConfig, TaskConfig
from rekindle.engine.device import Group, process_group, seed_everything, set_threads
from rekindle.engine.fingerprints import source_fingerprint, weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.engine.run import Run
from rekindle.engine.sampler import CachedSampler
from rekindle.errors import ConfigError
from rekindle.loops.reward_scores import open_scorer
from rekindle.loops.world import World
from rekindle.methods.catalog import find_method, method_module
from rekindle.rewards.judge import Judge
from rekindle.rewards.reward_model import Scorer
from rekindle.tasks import Task, load_task
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.training.recipe import Recipe

Mode = Literal["new", "resume", "overwrite"]


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    mode: Mode = "new",
    command: str = "",
    quiet: bool | None = None,
    policy: Policy | None = None,
    judge: Judge | None = None,
) -> Path:
    """Run a recipe in a run directory; returns `out/final`, the model in Hugging Face layout.

    Args:
        recipe: what to do, see `load_recipe`.
        out: the run directory.
        mode: `new` refuses a directory that exists, `resume` goes on from the newest complete
            checkpoint, `overwrite` starts again.
        command: recorded in the manifest.
        quiet: no progress; None: shown on a terminal.
        policy: a model in memory instead of `model.name`.
        judge: for methods whose section says `judge.source: callable`.

    Raises:
        RekindleError: with what was got, what was wanted, and what to do.
        SystemExit: with `errors.EXIT_RESUMABLE` after SIGTERM or SIGINT, a checkpoint written.
    """
    shared = recipe.shared
    _refuse_idle_judge(recipe, judge)
    group = process_group(shared.model.device)
    task = open_task(shared.task)
    if policy is None:
        policy = Policy.load(shared.model)
        model_hash = source_fingerprint(policy)
    else:
        model_hash = weights_fingerprint(policy)
    scorer = open_scorer(shared.reward, task, device=shared.model.device)
    parts = (("data", task), ("reward", scorer), ("judge", judge))
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
        world = make_world(recipe, policy=policy, task=task, run=run, group=group, scorer=scorer)
        world.judge = judge
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


def open_task(config: TaskConfig) -> Task:
    """The task that a recipe or command names."""
    return load_task(
        name=config.name,
        levels=config.levels,
        path=config.path,
        verifier=config.verifier,
        timeout=config.timeout,
        workers=config.workers,
        args=config.args,
    )


def make_world(
    recipe: Recipe,
    *,
    policy: Policy,
    task: Task,
    run: Run,
    group: Group,
    scorer: Scorer | None = None,
) -> World:
    """The world of a recipe around a loaded policy, task and reward model."""
    shared = recipe.shared
    brittle = shared.task.brittle
    return World(
        policy=policy,
        task=task,
        sampler=CachedSampler(policy),
        run=run,
        group=group,
        seed=shared.seed,
        optim=shared.optim,
        sample=sampling(shared.sample, task),
        evaluation=shared.eval,
        logging=shared.log,
        levels=shared.task.levels,
        max_missing=shared.task.max_missing,
        deterministic=shared.device.deterministic,
        scorer=scorer,
        verifier=BrittleVerifier(task, brittle) if brittle else None,
        max_missing_rm=shared.reward.max_missing,
    )


def sampling(config: SampleConfig, task: Task) -> SampleConfig:
    """Where the recipe is silent, the task says how long answers are and what ends them."""
    limits = {"max_new_tokens": task.max_new_tokens, "stop": task.stop}
    unset = limits.keys() - config.model_fields_set
    return config.model_copy(update={name: limits[name] for name in unset})
