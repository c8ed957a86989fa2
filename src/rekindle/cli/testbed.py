"""`rekindle testbed list` and `rekindle testbed build`: shipped models, and how they are made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

import typer

from rekindle import testbed
from rekindle.errors import ConfigError, RunDirectoryError, TrainingError
from rekindle.files import read_json

Mode = Literal["new", "resume", "overwrite"]


def run_list() -> None:
    """Print each model's name, what it was made from, and the accuracy that a base must reach."""
    for name in [*testbed.names(), *testbed.DERIVED]:
        typer.echo(testbed.describe(name))


def run_build(
    models: Sequence[str], out: Path, *, mode: Mode, steps: int | None, quiet: bool
) -> None:
    """Pre-train models from fresh weights by the engine's own SFT, evaluate them, check them.

    Those that are not shipped (other seeds, fewer steps) have nothing that they must reach. Models
    that are derived from a base are made by their own commands.
    """
    asked = [f"testbed/{name.removeprefix('testbed/')}" for name in models]
    derived = [name for name in asked if name in testbed.DERIVED]
    if derived and steps is not None:
        raise ConfigError(
            f"--steps has no effect on {derived[0]}",
            why="it is made from a shipped base by the command that docs/testbed.md names",
            fix="leave --steps out",
        )
    for name in asked:
        if name not in derived:
            testbed.split_name(name)
    for name in asked or [*testbed.names(), *testbed.DERIVED]:
        place = out / name.removeprefix("testbed/")
        if name in testbed.DERIVED:
            _derive(name, place, mode=mode, quiet=quiet)
        else:
            _build(name, place, mode=mode, steps=steps, quiet=quiet)


def _derive(name: str, out: Path, *, mode: Mode, quiet: bool) -> None:
    made = testbed.DERIVED[name]
    known = {"dir": str(out), "recipes": str(files("rekindle") / "recipes")}
    words = [word.format(**known) for word in made.arguments]
    words += {"new": [], "resume": ["--resume"], "overwrite": ["--overwrite"]}[mode]
    words += ["--quiet"] if quiet else []
    done = subprocess.run([sys.executable, "-m", "rekindle", *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    typer.echo(f"{name}: {out / made.model}")


def _build(name: str, out: Path, *, mode: Mode, steps: int | None, quiet: bool) -> None:
    from rekindle.engine.policy import Policy
    from rekindle.testbed.build import fresh_model, make_tokenizer
    from rekindle.training.recipe import make_recipe
    from rekindle.training.train import train

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
