"""From a recipe to a finished run directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rekindle.engine.adapters.adapter import trained_share
from rekindle.engine.adapters.policies import hold_base, with_adapter
from rekindle.engine.capabilities import check_optimizer, check_trainable
from rekindle.engine.config import DeviceConfig
from rekindle.engine.device import Group, pick_device, process_group, seed_everything, set_threads
from rekindle.engine.fingerprints import source_fingerprint, weights_fingerprint
from rekindle.engine.holding import hold
from rekindle.engine.policy import Policy
from rekindle.engine.progress import say
from rekindle.engine.prompt_limit import Scope
from rekindle.engine.run import Run
from rekindle.engine.rundir import check_mode, refuse_lost_input
from rekindle.engine.sampler import SamplerSource
from rekindle.errors import ConfigError
from rekindle.files import read_jsonl
from rekindle.loops.evaluation import Evaluation
from rekindle.loops.logbook import Logbook
from rekindle.loops.reward_scores import Graders, open_scorer
from rekindle.loops.world import World
from rekindle.methods.catalog import find_method, method_module
from rekindle.rewards.judge import Judge
from rekindle.rewards.python_reward import Reward
from rekindle.rewards.reward_model import Scorer
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.tasks.own import TaskSource, notes_of
from rekindle.training.parts import Parts, open_parts, sampling
from rekindle.training.recipe import Recipe, RecipeSource, Shared, recipe_of
from rekindle.training.remarks import rate_remark, run_remarks

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
        recipe, out: a YAML file, a mapping with its keys, or a checked recipe; the run directory.
        reward: grades answers in training and evaluation, instead of the task's verifier: a
            callable `(problems, texts) -> scores`, one finite number or None (missing) an answer,
            in order; 1 counts as right. See `rewards/python_reward.py`.
        task: instead of `task.name`: rows with `prompt` and `answer` (with a reward the answer may
            be left out; other columns are in `problem.meta`), rows by split, or a `rekindle.Task`.
        sampler: a `rekindle.Sampler`, or a function from a policy to one; None: the library's.
        judge: for `judge.source: callable`: a callable as `reward`, or a `rekindle.Judge`.
        overrides: `section.key=value`, as `--set` on the command line.
        mode: `new` refuses a directory that exists, `resume` goes on from the newest complete
            checkpoint, `overwrite` starts again.
        command, quiet, policy: recorded in the manifest; no progress; instead of `model.name`.

    Raises:
        RekindleError: with what was got, what was wanted, and what to do. After an error of the
            reward in a step, the last finished step is kept: `mode="resume"` goes on from there.
        SystemExit: with `errors.EXIT_RESUMABLE` after SIGTERM or SIGINT, a checkpoint written.
    """
    check_mode(mode)
    checked = recipe_of(recipe, overrides)
    refuse_lost_input(Path(out), mode, checked.resolved(), recipe)
    _say_unless(quiet, f"reading {checked.shared.task.name if task is None else 'problems'}")
    recipe, parts = open_parts(
        checked, reward=reward, task=task, sampler=sampler, judge=judge, policy=policy
    )
    shared, group = recipe.shared, process_group(recipe.shared.model.device)
    policy, model = _open_model(shared, policy, quiet)
    parts = parts.within_limit(recipe, policy)
    scorer = open_scorer(shared.reward, parts.task, device=shared.model.device)
    run = Run.open(
        Path(out),
        config=recipe.resolved(),
        fingerprints={**parts.fingerprints(scorer), "model": model},
        mode=mode,
        command=command,
        quiet=quiet,
        group=group,
    )
    with run:
        if not run.finished:
            run.note_remarks(parts.left_out)
            _train(recipe, make_world(recipe, parts, policy, run=run, group=group, scorer=scorer))
    return Path(out) / "final"


def _open_model(shared: Shared, given: Policy | None, quiet: bool | None) -> tuple[Policy, str]:
    """The model to train, held as training needs it, adapter and all; the hash of what it is."""
    check_trainable(shared.model if given is None else given.config)
    check_optimizer(shared.optim, pick_device(shared.model.device))
    if given is None:
        _say_unless(quiet, f"loading {shared.model.name}")
    policy = given or Policy.load(shared.model)
    if policy.adapter is None:
        hold(policy.model, policy.config, "training")
    mark = source_fingerprint(policy) if given is None else weights_fingerprint(policy)
    if shared.model.lora is not None:
        policy = with_adapter(policy, shared.model.lora, seed=shared.seed)
    hold_base(policy)
    if policy.adapter is None and policy.config.quantize != "none":
        raise ConfigError(
            "quantised weights are not trained",
            got=f"model.quantize: {policy.config.quantize}, and no adapter",
            fix="--set model.lora={} trains an adapter on them; or model.quantize=none",
        )
    return policy, mark


def _train(recipe: Recipe, world: World) -> None:
    world.run.describe_data(notes_of(world.task))
    if world.policy.adapter is not None:
        say(f"LoRA: {trained_share(world.policy.model)}")
    prepare_device(recipe.shared.device, world.policy, recipe.shared.seed)
    _remark_rate(recipe, world)
    trained: Policy = method_module(recipe.shared.method).run(recipe.method, world)
    rows = [row for _, row in read_jsonl(world.run.directory / "metrics.jsonl")]
    world.run.note_remarks(run_remarks(rows))
    # not the policy that it was given, where there are stages
    world.run.finish(partial(trained.save, dtype=recipe.shared.model.save_dtype))


def _say_unless(quiet: bool | None, text: str) -> None:
    if quiet is not True and os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        say(text)


def _remark_rate(recipe: Recipe, world: World) -> None:
    if not recipe.shared.optim.name.startswith("adamw"):
        return  # the usual rates of others are of another size
    parameters = list(world.policy.model.parameters())
    remark = rate_remark(
        find_method(recipe.shared.method),
        recipe.shared.optim.lr,
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
    )
    if remark is not None:
        world.run.note_remarks([remark])
        if world.group.is_main and world.run.quiet is not True:
            say(f"warning: {remark}")


def prepare_device(config: DeviceConfig, policy: Policy, seed: int) -> None:
    """Threads by the size of the model, and every random source seeded."""
    set_threads(config.threads, parameters=sum(p.numel() for p in policy.model.parameters()))
    seed_everything(seed, deterministic=config.deterministic)


def make_world(
    recipe: Recipe,
    parts: Parts,
    policy: Policy,
    *,
    run: Run,
    group: Group,
    scorer: Scorer | None = None,
) -> World:
    """The world of a recipe around its opened parts and a loaded policy and reward model."""
    shared, task = recipe.shared, parts.task
    brittle = shared.task.brittle
    return World(
        policy=policy,
        task=task,
        scope=Scope(shared.task.levels, parts.limit),
        run=run,
        group=group,
        seed=shared.seed,
        optim=shared.optim,
        sample=sampling(shared.sample, task),
        samplers=parts.samplers,
        graders=Graders(
            verifier=BrittleVerifier(task, brittle) if brittle else None,
            scorer=scorer,
            judge=parts.judge,
            max_missing=shared.task.max_missing,
            max_missing_rm=shared.reward.max_missing,
        ),
        evaluation=Evaluation(shared.eval),
        logbook=Logbook(shared.log),
    )
