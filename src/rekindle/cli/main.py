"""The `rekindle` command: a table of its subcommands, each imported when it is called.

A command's file declares its options and does its work; commands.json has its name, its place and
its line of `rekindle --help`.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from importlib import import_module
from importlib.resources import files
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from rekindle.engine.threads import calm_threads
from rekindle.errors import RekindleError


class Command(NamedTuple):
    """Where a command is, as module:function or module:typer app, and what it is for."""

    target: str
    help: str


COMMANDS = {
    name: Command(**row)
    for name, row in json.loads(
        files("rekindle.cli").joinpath("commands.json").read_text(encoding="utf-8")
    ).items()
}


class LazyGroup(TyperGroup):
    """The group of `COMMANDS`: it knows names and help lines, and imports a command to call it."""

    def __init__(self, **settings: Any) -> None:
        lines = {name: TyperCommand(name, help=row.help) for name, row in COMMANDS.items()}
        super().__init__(**{**settings, "commands": lines})

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """The command of a name, imported; None where there is none."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help page, of the lines in the table: nothing is imported for it."""
        listed = TyperGroup(name=self.name, commands=dict(self.commands), help=self.help)
        listed.format_help(ctx, formatter)


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Import a command of `COMMANDS`."""
    module, member = COMMANDS[name].target.split(":")
    target = vars(import_module(f"rekindle.cli.{module}"))[member]
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command(name)(function)
    command = typer.main.get_command(target)
    assert isinstance(command, TyperCommand | TyperGroup)
    command.name = name
    return command


app = typer.Typer(
    name="rekindle",
    cls=LazyGroup,
    callback=lambda: None,  # makes it a group before a command is known
    help="Bring the learning signal back when post-training has stopped working, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a user wants it: what it says, not where in the code it was said."""
    sys.stderr.write(f"warning: {message}\n")


def main() -> None:
    """Entry point: expected errors print without a traceback and exit with their code."""
    calm_threads()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.showwarning = _print_warning
    try:
        app()
    except RekindleError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
