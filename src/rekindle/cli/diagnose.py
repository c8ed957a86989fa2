"""`rekindle diagnose`: which learning signal is missing, on your model and data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
import yaml

from rekindle.cli.evaluate import EvalSettings, settings_of
from rekindle.engine.config import RewardConfig
from rekindle.errors import ConfigError, DataError, RunDirectoryError, did_you_mean
from rekindle.files import write_atomic, write_json

if TYPE_CHECKING:
    from rekindle.signals.measure import Found
    from rekindle.signals.remedies import Place
    from rekindle.signals.table import Advice, Finding
    from rekindle.tasks import Task


class DiagnoseSettings(EvalSettings):
    """What `--set` reaches in `rekindle diagnose`."""

    reward: RewardConfig = RewardConfig()


class Asked(NamedTuple):
    """The options of the command line."""

    model: str
    task: str
    weak: str | None
    problems: int
    samples: int
    levels: str | None
    run: Path | None
    pairs: Path | None
    signals: str | None
    out: Path | None
    write: Path | None


def run_diagnose(asked: Asked, overrides: Sequence[str]) -> None:
    """Measure, print the table and what follows from it, and write what is asked for."""
    wanted = _check(asked)
    settings = settings_of(DiagnoseSettings, asked.model, asked.task, overrides)
    if settings.sample.temperature == 0:
        raise ConfigError(
            "sample.temperature is 0",
            why="greedy answers to one problem are all the same, so groups would say nothing",
            fix="--set sample.temperature=1.0",
        )
    if asked.levels:
        names = tuple(part.strip() for part in asked.levels.split(","))
        task = settings.task.model_copy(update={"levels": names})
        settings = settings.model_copy(update={"task": task})
    from rekindle.engine.device import seed_everything, set_threads
    from rekindle.engine.policy import Policy
    from rekindle.methods.pairs import pairs_of_recipe
    from rekindle.methods.rewarding import open_scorer
    from rekindle.methods.train import open_task, sampling
    from rekindle.signals.baseline import read_baseline
    from rekindle.signals.measure import Measured, measure
    from rekindle.signals.table import closing

    pairs = [] if asked.pairs is None else pairs_of_recipe(str(asked.pairs))
    baseline = None if asked.run is None else read_baseline(asked.run)
    loaded = open_task(settings.task)
    scorer = open_scorer(settings.reward, loaded, device=settings.model.device)
    policy, weak = Policy.load(settings.model), None
    if asked.weak is not None:
        weak = Policy.load(settings.model.model_copy(update={"name": asked.weak, "revision": None}))
    parameters = sum(p.numel() for p in policy.model.parameters())
    set_threads(settings.device.threads, parameters=parameters)
    seed_everything(0, deterministic=settings.device.deterministic)
    world = Measured(
        policy, weak, loaded, settings.task.brittle, settings.task.levels,
        sampling(settings.sample, loaded), scorer, pairs, baseline,
    )  # fmt: skip
    found = measure(world, wanted, problems=asked.problems, samples=asked.samples)
    lines = closing(found.findings)
    _print(found, lines)
    if asked.out is not None:
        _write_numbers(asked.out, asked, loaded.name, found, lines)
    if asked.write is not None:
        place = _place(asked, settings, loaded, parameters)
        _write_studies(asked.write, found.findings, place)


def _check(asked: Asked) -> tuple[str, ...] | None:
    """The signals that are asked for by name, None for all there are."""
    for name, value in (("problems", asked.problems), ("samples", asked.samples)):
        if value < 2:
            raise ConfigError(f"--{name} is too small", got=value, wanted="2 or more")
    if asked.write is not None and asked.write.exists():
        raise RunDirectoryError(f"{asked.write} exists", fix="give another --write")
    if asked.signals is None:
        return None
    from rekindle.signals.table import ORDER

    wanted = tuple(part.strip() for part in asked.signals.split(","))
    for name in wanted:
        if name not in ORDER:
            raise ConfigError(f"there is no signal '{name}'", fix=did_you_mean(name, ORDER))
    return wanted


def _print(found: Found, lines: Sequence[str]) -> None:
    rows = [row for finding in found.findings for row in finding.rows]
    wide = max((len(row.name) for row in rows), default=0)
    for finding in found.findings:
        typer.echo(finding.signal)
        for row in finding.rows:
            interval = "" if math.isnan(row.ci_low) else f"[{row.ci_low:.4g}, {row.ci_high:.4g}]"
            value = f"{row.value:>9.4g}  {interval:<22}  n {row.n:<5}"
            typer.echo(f"  {row.name:<{wide}}  {value}  {row.words}")
    typer.echo("")
    for finding in found.findings:
        typer.echo(f"{finding.signal:<9}  {finding.state}: {finding.verdict}")
    for name, why in found.missing.items():
        typer.echo(f"{name:<9}  not measured: {why}")
    typer.echo("")
    for line in lines:
        typer.echo(line)


def _write_numbers(out: Path, asked: Asked, task: str, found: Found, lines: Sequence[str]) -> None:
    by_name = {finding.signal: finding.as_dict() for finding in found.findings}
    result: dict[str, Any] = {"model": asked.model, "task": task, "weak": asked.weak}
    if "sft" in by_name:  # at the top, where this file had it before there were other signals
        result |= {key: by_name["sft"][key] for key in ("signal", "state", "verdict", "rows")}
    result |= {"signals": by_name, "not_measured": found.missing, "conclusion": list(lines)}
    write_json(out, result)
    typer.echo(f"written: {out}")


def _write_studies(path: Path, findings: Sequence[Finding], place: Place) -> None:
    """A study of each remedy that fits: the first as `path`, others beside it under their names."""
    from rekindle.signals.remedies import writable

    fits = [(f.signal, f.remedy) for f in findings if f.remedy is not None]
    fits = [(signal, advice) for signal, advice in fits if writable(advice.what)]
    if not fits:
        typer.echo(f"{path} was not written: no remedy with a study fits")
    done = set[str]()
    for signal, advice in fits:
        if advice.what in done:
            continue
        name = f"{path.stem}_{advice.what}{path.suffix}" if done else path.name
        _write_study(path.with_name(name), signal, advice, place)
        done.add(advice.what)


def _write_study(path: Path, signal: str, remedy: Advice, place: Place) -> None:
    from rekindle.signals.remedies import study_tree
    from rekindle.study.design import load_study, plan

    text = yaml.safe_dump(study_tree(remedy.what, place), sort_keys=False, width=100)
    head = (
        f"# Written by rekindle diagnose; {signal}: {remedy.what} fits.\n"
        f"# {remedy.why}.\n"
        "# Settle the baseline's rate on dev problems first, then:\n"
        f"#   rekindle study {path} --out runs/{path.stem}\n"
    )
    if path.exists():
        raise RunDirectoryError(f"{path} exists", fix="give another --write")
    write_atomic(path, head + text)
    plan(load_study(path), Path("runs") / path.stem)
    typer.echo(f"written: {path}, a study of {remedy.what}")


def _place(asked: Asked, settings: DiagnoseSettings, task: Task, parameters: int) -> Place:
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
        asked.model, parameters, kept, reward, asked.weak, asked.problems, train=len(there)
    )
