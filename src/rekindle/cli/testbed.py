"""`rekindle testbed list` and `rekindle testbed build`: shipped models, and how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import typer

from rekindle import testbed
from rekindle.errors import RunDirectoryError, TrainingError
from rekindle.files import read_json

Mode = Literal["new", "resume", "overwrite"]


def run_list() -> None:
    """Print name, task, parameters and the accuracy that each model must reach."""
    for name in testbed.names():
        typer.echo(testbed.describe(name))


def run_build(
    models: Sequence[str], out: Path, *, mode: Mode, steps: int | None, quiet: bool
) -> None:
    """Pre-train models from fresh weights by the engine's own SFT, evaluate them, check them.

    Those that are not shipped (other seeds, fewer steps) have nothing that they must reach.
    """
    for name in models:
        testbed.split_name(name)
    for name in models or testbed.names():
        _build(name, out / name.removeprefix("testbed/"), mode=mode, steps=steps, quiet=quiet)


def _build(name: str, out: Path, *, mode: Mode, steps: int | None, quiet: bool) -> None:
    from rekindle.engine.policy import Policy
    from rekindle.methods.recipe import make_recipe
    from rekindle.methods.train import train
    from rekindle.testbed.build import fresh_model, make_tokenizer

    if mode == "resume" and not out.exists():
        mode = "new"
    if mode == "new" and out.exists():
        raise RunDirectoryError(f"{out} exists", fix="--resume goes on, --overwrite replaces it")
    recipe = make_recipe(testbed.pretraining(name, steps=steps))
    train(
        recipe,
        out,
        mode=mode,
        command=f"rekindle testbed build {name}" + (f" --steps {steps}" if steps else ""),
        quiet=True if quiet else None,
        policy=Policy.of(fresh_model(recipe.shared.seed), make_tokenizer(), recipe.shared.model),
    )
    levels = read_json(out / "eval.json")["levels"]
    reached = {level: block["metrics"]["pass@1"]["value"] for level, block in levels.items()}
    typer.echo(f"{name}: " + ", ".join(f"level {k} pass@1 {v:.2f}" for k, v in reached.items()))
    if steps is not None or f"testbed/{name.removeprefix('testbed/')}" not in testbed.names():
        return
    low = {
        level: (reached[level], floor)
        for level, floor in testbed.must_reach(name).items()
        if reached[level] < floor
    }
    if low:
        raise TrainingError(
            f"{name} is below what it must reach",
            got=low,
            wanted="pass@1 of at least the second",
            fix="the versions of constraints.txt are those it was settled with",
        )
