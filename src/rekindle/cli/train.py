"""`rekindle train`: a recipe to a trained model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rekindle.cli.options import Quiet, Set, command_line, mode_of
from rekindle.files import read_json


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, see recipes/.")],
    out: Annotated[Path, typer.Option(help="The run directory.")],
    resume: Annotated[
        bool, typer.Option(help="Continue from the newest complete checkpoint.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing run.")] = False,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Train a model by a recipe; DIR/final holds it at the end."""
    mode = mode_of(resume, overwrite)
    from rekindle.training.train import train as train_recipe

    final = train_recipe(
        recipe,
        out,
        overrides=sets or [],
        mode=mode,
        command=command_line(),
        quiet=True if quiet else None,
    )
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        typer.echo(f"model: {final}\nreport: rekindle report {out}")
        for remark in read_json(out / "manifest.json").get("remarks", []):
            typer.echo(f"warning: {remark}")
