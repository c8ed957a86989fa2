"""The files that `rekindle diagnose` writes: checked before anything is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import yaml

from rekindle.errors import ConfigError, RunDirectoryError
from rekindle.files import explained_io, write_atomic

if TYPE_CHECKING:
    from rekindle.signals.remedies import Place
    from rekindle.signals.table import Advice


def check_targets(
    out: Path | None, write: Path | None, read: Sequence[Path | None], overwrite: bool
) -> None:
    """Refuse files that are there, that are one and the same, or that cannot be written.

    Args:
        out: the numbers.
        write: the study; those of further remedies go beside it.
        read: files that the command reads, which it never replaces.

    Raises:
        ConfigError: two of them are one file.
        RunDirectoryError: one exists, is a directory, or its place cannot be written to.
    """
    from rekindle.signals.remedies import STUDIES

    beside = [] if write is None else [sibling(write, remedy) for remedy in STUDIES]
    targets = [("--out", out), ("--write", write), *[("--write", path) for path in beside]]
    given = [(option, path) for option, path in targets if path is not None]
    taken = {path.resolve(): "what the command reads" for path in read if path is not None}
    for option, path in given:
        place = path.resolve()
        if place in taken:
            raise ConfigError(
                f"{option} {path} is {taken[place]} as well",
                got=str(path),
                wanted="a file of its own for each",
                why="the one would replace the other",
                fix=f"give another {option}",
            )
        taken[place] = f"the file of {option}"
        if path.is_dir():
            raise RunDirectoryError(
                f"{path} is a directory", wanted="a file", fix=f"give {option} a file's name"
            )
        if path.exists() and not overwrite:
            raise RunDirectoryError(
                f"{path} exists",
                why="nothing is replaced that was not meant to be",
                fix=f"give another {option}, or --overwrite to replace it",
            )
    for place in {path.parent for _, path in given}:
        with explained_io(place, "writing in"):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass


def sibling(path: Path, remedy: str) -> Path:
    """Where the study of a further remedy goes."""
    return path.with_name(f"{path.stem}_{remedy}{path.suffix}")


def write_study(path: Path, signal: str, remedy: Advice, place: Place) -> None:
    """Write the study of a remedy, and check that it can be planned."""
    from rekindle.signals.remedies import study_tree
    from rekindle.study.design import load_study, plan

    text = yaml.safe_dump(study_tree(remedy.what, place), sort_keys=False, width=100)
    head = (
        f"# Written by rekindle diagnose; {signal}: {remedy.what} fits.\n"
        f"# {remedy.why}.\n"
        "# Settle the baseline's rate on dev problems first, then:\n"
        f"#   rekindle study {path} --out runs/{path.stem}\n"
    )
    write_atomic(path, head + text)
    plan(load_study(path), Path("runs") / path.stem)
    typer.echo(f"written: {path}, a study of {remedy.what}")
