"""`rekindle diagnose`: where the signal of SFT is going out, on your model and data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import typer

from rekindle.cli.evaluate import settings_for
from rekindle.errors import ConfigError
from rekindle.files import write_json


def run_diagnose(
    *,
    model: str,
    task: str,
    weak: str | None,
    problems: int,
    levels: str | None,
    out: Path | None,
    overrides: Sequence[str],
) -> None:
    """Measure, print the table and its verdict, and write the numbers where asked."""
    if problems < 2:
        raise ConfigError("--problems is too small", got=problems, wanted="2 or more")
    settings = settings_for(model, task, overrides)
    from rekindle.engine.device import seed_everything, set_threads
    from rekindle.engine.policy import Policy
    from rekindle.methods.train import open_task
    from rekindle.signals.saturation import saturation

    loaded = open_task(settings.task)
    names = tuple(part.strip() for part in levels.split(",")) if levels else settings.task.levels
    policy = Policy.load(settings.model)
    other = None
    if weak is not None:
        other = Policy.load(settings.model.model_copy(update={"name": weak, "revision": None}))
    set_threads(
        settings.device.threads, parameters=sum(p.numel() for p in policy.model.parameters())
    )
    seed_everything(0, deterministic=settings.device.deterministic)
    train, dev = (
        loaded.problems(split, count=problems, seed=0, levels=names) for split in ("train", "dev")
    )
    found = saturation(policy, train, dev, weak=other)
    wide = max(len(row.name) for row in found.rows)
    for row in found.rows:
        interval = "" if math.isnan(row.ci_low) else f"[{row.ci_low:.4g}, {row.ci_high:.4g}]"
        typer.echo(f"{row.name:<{wide}}  {row.value:>9.4g}  {interval:<22}  {row.words}")
    typer.echo(f"\n{found.state}: {found.verdict}")
    if out is not None:
        write_json(out, {"model": model, "task": loaded.name, "weak": weak, **found.as_dict()})
        typer.echo(f"written: {out}")
