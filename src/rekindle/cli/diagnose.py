"""`rekindle diagnose`: which learning signal is missing, on your model and data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rekindle.cli.diagnose_asked import Asked, DiagnoseSettings, check_asked, settings_asked
from rekindle.cli.diagnose_files import write_studies
from rekindle.cli.diagnose_told import tell
from rekindle.engine.config import ModelConfig
from rekindle.errors import ConfigError, DataError
from rekindle.training.recipe import checked, with_overrides

if TYPE_CHECKING:
    from rekindle.engine.policy import Policy
    from rekindle.signals.remedies import Place
    from rekindle.tasks import Task
    from rekindle.tasks.task import Grader


def run_diagnose(asked: Asked, overrides: Sequence[str]) -> None:
    """Measure, print the table and what follows from it, and write what is asked for."""
    wanted = check_asked(asked)
    if asked.task is None:
        _run_on_pairs(asked, wanted, overrides)
        return
    settings = settings_asked(asked, asked.task, overrides)
    from rekindle.engine.device import seed_everything, set_threads
    from rekindle.loops.reward_scores import open_scorer
    from rekindle.signals.baseline import check_alike, read_baseline
    from rekindle.signals.measure import Measured, measure
    from rekindle.signals.table import closing
    from rekindle.tasks.pairs import pairs_to_look_at
    from rekindle.training.parts import open_task
    from rekindle.training.train import sampling

    pairs = [] if asked.pairs is None else pairs_to_look_at(asked.pairs)
    baseline = None if asked.run is None else read_baseline(asked.run)
    if baseline is not None and asked.run is not None:
        task = settings.task.model_dump(mode="json", include={"name", "path", "levels"})
        check_alike(baseline, asked.run, task=task, model=asked.model)
    _check_weak(asked, settings.model)
    loaded = open_task(settings.task)
    check = _stronger(asked.check, settings, loaded)
    scorer = open_scorer(settings.reward, loaded, device=settings.model.device)
    policy, weak = _models(asked, settings.model)
    parameters = sum(p.numel() for p in policy.model.parameters())
    set_threads(settings.device.threads, parameters=parameters)
    seed_everything(0, deterministic=settings.device.deterministic)
    world = Measured(
        policy, weak, loaded, settings.task.brittle, settings.task.levels,
        sampling(settings.sample, loaded), scorer, pairs, baseline, check, asked.group_size,
        source if (source := settings.reward.source) in ("random", "oracle") else None,
    )  # fmt: skip
    found = measure(world, wanted, problems=asked.problems, samples=asked.samples)
    lines = closing(found.findings)
    tell(asked, loaded.name, found, lines)
    if asked.write is not None:
        place = _place(asked, settings, loaded, parameters, world.group())
        write_studies(asked.write, found.findings, place, loaded, asked.check)


def _check_weak(asked: Asked, config: ModelConfig) -> None:
    """Refuse a weak model that goes by the model's own name, or lies at the same place.

    Raises:
        ConfigError: it does.
    """
    from rekindle.engine.policy import model_source

    if asked.weak is None or config.revision is not None:  # one name, and maybe two revisions
        return
    ours, theirs = (Path(model_source(c)) for c in (config, _weak_config(asked.weak, config)))
    if ours == theirs or (ours.exists() and ours.resolve() == theirs.resolve()):
        raise _same_model(asked, "one place")


def _models(asked: Asked, config: ModelConfig) -> tuple[Policy, Policy | None]:
    """The model, and the weak one.

    Raises:
        ConfigError: their weights are equal.
    """
    from rekindle.engine.fingerprints import same_weights
    from rekindle.engine.policy import Policy

    policy = Policy.load(config)
    if asked.weak is None:
        return policy, None
    weak = Policy.load(_weak_config(asked.weak, config))
    if same_weights(policy, weak):
        raise _same_model(asked, "equal weights")
    return policy, weak


def _weak_config(weak: str, config: ModelConfig) -> ModelConfig:
    return config.model_copy(update={"name": weak, "revision": None})


def _same_model(asked: Asked, how: str) -> ConfigError:
    return ConfigError(
        "--weak is the same model as --model",
        got=f"--model {asked.model}, --weak {asked.weak}: {how}",
        wanted="another model: an earlier checkpoint, or a weaker one",
        why="beside itself a model is neither weaker nor stronger, so nothing would be found",
        fix="give another --weak, or leave it out",
    )


def _run_on_pairs(asked: Asked, wanted: tuple[str, ...] | None, overrides: Sequence[str]) -> None:
    """What can be said without a task: of pairs, and of a self-rewarding run."""
    tree = with_overrides({"model": {"name": asked.model}}, overrides)
    _check_no_task(asked, wanted, named="task" in tree)
    settings = checked(DiagnoseSettings, tree, "")
    from rekindle.engine.policy import Policy
    from rekindle.signals.baseline import check_alike, read_baseline
    from rekindle.signals.measure import Found
    from rekindle.signals.pair_gap import measure_pairs
    from rekindle.signals.table import ORDER, closing
    from rekindle.tasks.pairs import pairs_to_look_at

    pairs = [] if asked.pairs is None else pairs_to_look_at(asked.pairs)
    rounds: list[dict[str, Any]] = []
    if asked.run is not None:
        baseline = read_baseline(asked.run)
        check_alike(baseline, asked.run, task=baseline.task or {}, model=asked.model)
        rounds = baseline.rounds
    if not pairs and not rounds:
        raise _without_task(f"--run {asked.run}, which has no rounds of self-rewarding")
    finding = measure_pairs(Policy.load(settings.model), pairs, rounds)
    others = () if wanted else tuple(name for name in ORDER if name != finding.signal)
    found = Found([finding], dict.fromkeys(others, "needs --task"))
    tell(asked, None, found, closing(found.findings))


def _check_no_task(asked: Asked, wanted: tuple[str, ...] | None, *, named: bool) -> None:
    options = {
        "--weak": asked.weak, "--check": asked.check, "--levels": asked.levels,
        "--group-size": asked.group_size, "--write": asked.write,
        "--set task...": named or None,
    }  # fmt: skip
    given = [option for option, value in options.items() if value is not None]
    if wanted is not None and set(wanted) != {"pairs"}:
        given.append(f"--signals {asked.signals}")
    if asked.pairs is None and asked.run is None:
        given.append("neither --pairs nor --run")
    if given:
        raise _without_task(", ".join(given))


def _without_task(got: str) -> ConfigError:
    return ConfigError(
        "--task is missing",
        got=got,
        wanted="--task, or only --pairs FILE or --run of a self-rewarding method",
        why="every signal but that of pairs is measured on a task's problems",
        fix="give --task: a name of `rekindle tasks`, a .jsonl file or a directory of splits",
    )


def _stronger(name: str | None, settings: DiagnoseSettings, task: Task) -> Grader | None:
    """The check beside the training verifier: another verifier on the same rows."""
    if name is None:
        return None
    from dataclasses import replace

    from rekindle.tasks.rows import Listed, check_verifier

    if not isinstance(task, Listed):
        raise ConfigError(
            f"--check {name} needs a task from a file",
            got=f"task '{task.name}'",
            wanted="a .jsonl file, a directory of splits, or task.name=hub",
            why="a generated task has one check, its own",
            fix="leave --check out, or make its verifier brittle: --set task.brittle=0.5",
        )
    if name == task.verifier:
        raise ConfigError(
            f"--check {name} is the training verifier",
            got=f"task.verifier {task.verifier}",
            wanted="another one, which accepts what that rejects",
            why="the same check beside itself finds nothing",
            fix="set task.verifier to what training uses, e.g. --set task.verifier=exact",
        )
    if settings.task.brittle:
        raise ConfigError(
            "--check and task.brittle are both set",
            got=f"--check {name}, task.brittle {settings.task.brittle:g}",
            wanted="one of them",
            why="with task.brittle the stronger check is the task's own",
            fix="leave one out",
        )
    return replace(task, verifier=check_verifier(name))


def _place(
    asked: Asked, settings: DiagnoseSettings, task: Task, parameters: int, group_size: int
) -> Place:
    from rekindle.signals.remedies import ENOUGH, Place

    plain = settings.model_dump(mode="json", exclude_unset=True)
    plain["model"].pop("name")
    kept = {name: plain[name] for name in ("task", "model", "sample") if plain.get(name)}
    reward = plain.get("reward") or {}
    levels = settings.task.levels
    try:
        there = task.problems("train", count=ENOUGH, seed=0, levels=levels)
    except DataError:  # a level with fewer; what was measured is there
        there = task.problems("train", count=asked.problems, seed=0, levels=levels)
    return Place(
        asked.model, parameters, kept, reward, asked.weak, asked.problems, len(there), group_size
    )
