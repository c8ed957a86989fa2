"""`rekindle train`: a recipe to a trained model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rekindle.cli.options import Quiet, Set, command_line, mode_of, read_bytes
from rekindle.errors import ConfigError
from rekindle.files import read_json


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, see recipes/.")],
    out: Annotated[Path | None, typer.Option(help="The run directory.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Continue from the newest complete checkpoint.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing run.")] = False,
    sets: Set = None,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it needs and costs; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Of a dry run: as JSON.")] = False,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a dry run: tokens of every prompt.")
    ] = None,
    answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a dry run: tokens of an answer, on average.")
    ] = None,
    gpu_memory: Annotated[
        str | None, typer.Option(help="Of a dry run: a GPU that is not here, such as 80GB.")
    ] = None,
    probe: Annotated[
        bool, typer.Option(help="Of a dry run: load the model, where it is here, and time it.")
    ] = True,
) -> None:
    """Train a model by a recipe; DIR/final holds it at the end."""
    mode = mode_of(resume, overwrite)
    if dry_run:
        memory = None if gpu_memory is None else read_bytes("--gpu-memory", gpu_memory)
        _print_dry_run(recipe, sets or [], prompt_tokens, answer_tokens, memory, probe, as_json)
        return
    if out is None:
        raise ConfigError(
            "there is no --out",
            wanted="the run directory, which the run is written to",
            fix="add --out DIR, or --dry-run to be told what the run would need",
        )
    used = as_json or not probe or (prompt_tokens, answer_tokens, gpu_memory) != (None, None, None)
    if used:
        raise ConfigError(
            "--json, --no-probe and the options of tokens and memory are of a dry run",
            fix="add --dry-run, or leave them out",
        )
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


def _print_dry_run(
    recipe: Path,
    sets: list[str],
    prompt_tokens: int | None,
    answer_tokens: int | None,
    gpu_memory: int | None,
    probe: bool,
    as_json: bool,
) -> None:
    from rekindle.training.dry_run.dry_run import Assumptions, dry_run
    from rekindle.training.dry_run.text import lines_of

    given = Assumptions(prompt_tokens, answer_tokens, gpu_memory, probe)
    result = dry_run(recipe, overrides=sets, assumptions=given)
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
        return
    for line in lines_of(result):
        typer.echo(line)
