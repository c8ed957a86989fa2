"""`rekindle eval` and `rekindle compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from rekindle.engine.config import (
    DeviceConfig,
    EvalConfig,
    ModelConfig,
    SampleConfig,
    Section,
    TaskConfig,
)
from rekindle.errors import ConfigError, DataError, RunDirectoryError
from rekindle.files import write_json
from rekindle.training.recipe import checked, with_overrides

if TYPE_CHECKING:
    from rekindle.engine.policy import Policy
    from rekindle.evals.reading import Eval, LevelCells


class EvalSettings(Section):
    """What `--set` reaches in `rekindle eval`."""

    model: ModelConfig = ModelConfig()
    task: TaskConfig = TaskConfig()
    sample: SampleConfig = SampleConfig()
    eval: EvalConfig = EvalConfig()
    device: DeviceConfig = DeviceConfig()


S = TypeVar("S", bound=EvalSettings)


def settings_for(model: str, task: str, overrides: Sequence[str]) -> EvalSettings:
    """Settings from the command line; a task that ends in .jsonl is a file."""
    return settings_of(EvalSettings, model, task, overrides)


def settings_of(kind: type[S], model: str, task: str, overrides: Sequence[str]) -> S:
    """The same, of a command that reads more sections."""
    tree: dict[str, Any] = {"model": {"name": model}, "task": {"name": task}}
    if task.endswith(".jsonl") or Path(task).is_dir():
        tree["task"] = {"name": "jsonl", "path": task}
    elif "/" in task or Path(task).exists():
        raise DataError(
            f"task '{task}' is {'no .jsonl file' if Path(task).exists() else 'not there'}",
            wanted="a task's name (`rekindle tasks`), a .jsonl file, or a directory with "
            "train.jsonl, dev.jsonl, test.jsonl",
            fix="check the path",
        )
    tree["eval"] = {"problems": 200}  # more than during training: nothing waits for it
    return checked(kind, with_overrides(tree, overrides), "")


def run_eval(
    *,
    model: str,
    task: str,
    out: Path,
    split: str,
    samples: int | None,
    problems: int | None,
    levels: str | None,
    seed: int,
    away_from: tuple[str, float] | None,
    overwrite: bool,
    overrides: Sequence[str],
) -> None:
    """Evaluate, write the JSON, print the table."""
    settings = settings_for(model, task, overrides)
    samples = settings.eval.samples if samples is None else samples
    problems = settings.eval.problems if problems is None else problems
    _check(split, samples, problems, settings.sample)
    if out.exists() and not overwrite:
        raise RunDirectoryError(
            f"{out} exists", fix="give another --out, or --overwrite to replace it"
        )
    from rekindle.engine.device import seed_everything, set_threads
    from rekindle.engine.sampler import sampler_for
    from rekindle.evals.evaluate import evaluate
    from rekindle.training.parts import open_task
    from rekindle.training.train import sampling

    wanted = settings.task
    loaded = open_task(wanted)
    names = (
        tuple(level.strip() for level in levels.split(","))
        if levels
        else settings.eval.levels or wanted.levels
    )
    listed = loaded.problems(split, count=problems, seed=seed, levels=names)  # type: ignore[arg-type]
    policy, model = _policy(settings, away_from)
    set_threads(
        settings.device.threads, parameters=sum(p.numel() for p in policy.model.parameters())
    )
    seed_everything(seed, deterministic=settings.device.deterministic)
    result = evaluate(
        listed,
        sampler=sampler_for(policy),
        task=loaded,
        sample_config=sampling(settings.sample, loaded),
        samples=samples,
        seed=seed,
        split=split,
        model=model,
        temperatures=settings.eval.temperatures,
        policy=policy if settings.eval.likelihood else None,
    )
    write_json(out, result)
    _print(result)
    typer.echo(f"written: {out}")


def _policy(settings: EvalSettings, away_from: tuple[str, float] | None) -> tuple[Policy, str]:
    """What is evaluated, and what it is called."""
    from rekindle.engine.contrast import ContrastPolicy
    from rekindle.engine.policy import Policy

    policy, name = Policy.load(settings.model), settings.model.name
    if away_from is None:
        return policy, name
    weak, strength = away_from
    other = Policy.load(settings.model.model_copy(update={"name": weak, "revision": None}))
    both = ContrastPolicy.between(policy, other, strength)
    return both, f"{name} + {strength:g} (it - {weak})"


def run_compare(before: Path, after: Path) -> None:
    """Print the paired differences `after - before`, over all problems and per level."""
    from rekindle.evals.compare import compare_table
    from rekindle.evals.reading import read_eval

    first = read_eval(before)
    same = before.resolve() == after.resolve()  # a file beside itself, not two that agree
    rows = compare_table(first, first if same else read_eval(after))
    typer.echo(f"{'level':<8} {'metric':<10} {'difference':>10}   95 % interval       p      n")
    for level, metric, change in rows:
        typer.echo(
            f"{level or 'all':<8} {metric:<10} {change.value:>+10.3f}   "
            f"[{change.ci_low:+.3f}, {change.ci_high:+.3f}]  {change.p_value:.3f}  "
            f"{change.n_problems}"
        )


def _check(split: str, samples: int, problems: int, sample: SampleConfig) -> None:
    if split not in ("train", "dev", "test"):
        raise ConfigError("--split is unknown", got=split, wanted="train, dev or test")
    if samples < 1 or problems < 1:
        raise ConfigError(
            "--samples and --problems must be at least 1", got=f"{samples} and {problems}"
        )
    if samples > 1 and sample.temperature == 0:
        raise ConfigError(
            "several samples at temperature 0",
            got=f"--samples {samples}, sample.temperature 0",
            wanted="--samples 1, or a temperature above 0",
            why="greedy answers to one problem are all the same, so pass@k would say nothing",
        )


def _print(result: Eval) -> None:
    overall: LevelCells = {"n_problems": result["n_problems"], "metrics": result["metrics"]}
    blocks = [("all", overall), *result["levels"].items()]
    names = list(result["metrics"])
    wide = max(map(len, names))
    for level, block in blocks:
        typer.echo(f"level {level}: {block['n_problems']} problems x {result['n_samples']} samples")
        for name in names:
            cell = block["metrics"][name]
            if cell["value"] is None:
                typer.echo(f"  {name:<{wide}} undefined")
                continue
            low, high = cell["ci_low"], cell["ci_high"]
            interval = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"
            typer.echo(f"  {name:<{wide}} {cell['value']:.3f}  95 % {interval}  n={cell['n']}")
    calibration = result.get("calibration")
    if calibration is not None and calibration["ece"] is not None:
        typer.echo(f"calibration error of greedy answers (ece) {calibration['ece']:.3f}")
