"""What commands share: options that several have, and how a run's mode and command are told."""

from __future__ import annotations

import sys
from typing import Annotated, Literal, Optional

import typer

from rekindle.errors import ConfigError

Set = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this at run time
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def mode_of(resume: bool, overwrite: bool) -> Literal["new", "resume", "overwrite"]:
    """What is to be done with a directory that exists.

    Raises:
        ConfigError: both options were given.
    """
    if resume and overwrite:
        raise ConfigError(
            "--resume and --overwrite exclude each other",
            why="one keeps what is there, the other deletes it",
            fix="choose one",
        )
    return "resume" if resume else "overwrite" if overwrite else "new"


def command_line() -> str:
    """The command as it was typed, for manifests."""
    import shlex

    return shlex.join(["rekindle", *sys.argv[1:]])
