"""The `rekindle` command: a table of its subcommands, each imported when it is called.

A command's file declares its options and does its work; here are its name, its place and its line
of `rekindle --help`.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Any, NamedTuple, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from rekindle.engine.threads import calm_threads
from rekindle.errors import EXIT_USER_ERROR, RekindleError


class Command(NamedTuple):
    """Where a command is, as module:function or module:typer app, and what it is for."""

    target: str
    help: str


COMMANDS = {
    "quickstart": Command(
        "quickstart:quickstart",
        "Take a tour: five methods, each beside its baseline on the testbed, and a page about it.",
    ),
    "train": Command("train:train", "Train a model by a recipe; DIR/final holds it at the end."),
    "eval": Command(
        "evaluate:evaluate",
        "Measure pass@k, avg@k, maj@k and greedy accuracy, per level, with intervals.",
    ),
    "diagnose": Command(
        "diagnose:diagnose",
        "Say which learning signal is missing, what would bring it back, and what would not.",
    ),
    "compare": Command(
        "evaluate:compare", "Compare two evaluations: the paired difference, with intervals."
    ),
    "report": Command("report:report", "Build one self-contained page about one or more runs."),
    "export": Command(
        "report:export",
        "Export a study as small files: its results, their data and its page; no weights.",
    ),
    "study": Command(
        "study:study",
        "Run a study: arms x seeds x base models at an equal budget, and its verdicts.",
    ),
    "tasks": Command("lists:tasks", "List the tasks."),
    "methods": Command(
        "lists:methods",
        "List the methods, the recipe section that configures each, and what it does.",
    ),
    "cite": Command("cite:cite", "Print citations of the methods' papers and of Rekindle."),
    "inspect-data": Command(
        "inspect_data:inspect_data",
        "Show what the model would see: tokens, and which of them carry loss.",
    ),
    "grade": Command(
        "grade:grade",
        "Check answers in processes that can be killed: 1, 0, or null with the reason.",
    ),
    "doctor": Command(
        "doctor:doctor", "Print versions, devices, threads and optional parts of this installation."
    ),
    "explain": Command("explain:app", "Apply a method's formula to your own rows."),
    "reward": Command("reward:app", "Train and assess reward models."),
    "testbed": Command("testbed:app", "List or rebuild the small models that ship with rekindle."),
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


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a user wants it: what it says, not where in the code it was said."""
    sys.stderr.write(f"warning: {message}\n")


def main() -> None:
    """Entry point: expected errors print without a traceback and exit with 2."""
    calm_threads()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.showwarning = _print_warning
    try:
        app()
    except RekindleError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(EXIT_USER_ERROR) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
