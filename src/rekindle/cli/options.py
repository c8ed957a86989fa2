"""Options that several commands have, and what a command line says of a run: its mode and itself.

Nothing heavy is imported here or at the top of a command's file: `--help` answers at once.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from rekindle.errors import ConfigError
from rekindle.records import Split

Mode = Literal["new", "resume", "overwrite"]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]
ThoughtOpen = Annotated[
    bool, typer.Option("--thought-open", help="The prompt's template had opened a thought.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Levels = Annotated[str | None, typer.Option(help="Levels, comma-separated; default: all.")]
TestedModel = Annotated[str, typer.Option(help="testbed/<name>, a directory, or a hub id.")]


def mode_of(resume: bool, overwrite: bool) -> Mode:
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


def named_paths(*names: str | Path | None, sets: Sequence[str] | None = None) -> tuple[Path, ...]:
    """What a command reads, as paths: its arguments, and the values of --set; some are no paths."""
    values = [override.partition("=")[2] for override in sets or []]
    return tuple(Path(name) for name in [*names, *values] if name)


def split_names(text: str | None) -> tuple[str, ...] | None:
    """The names between commas; None where nothing was given."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def difference_text(value: float | None, low: float | None, high: float | None) -> str:
    """`+0.123 [+0.100, +0.146]`; None and nan are not known."""
    if value is None or math.isnan(value):
        return "undefined"
    if low is None or high is None or math.isnan(low):
        return f"{value:+.3f} (no interval)"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def check_split(split: str) -> Split:
    """The split of a name.

    Raises:
        ConfigError: there is no such split.
    """
    splits: dict[str, Split] = {"train": "train", "dev": "dev", "test": "test"}
    if split not in splits:
        raise ConfigError("--split is unknown", got=split, wanted="train, dev or test")
    return splits[split]


def read_bytes(option: str, text: str) -> int:
    """Bytes from `80GB`, `512MB` or a plain number, in powers of ten.

    Raises:
        ConfigError: it is none of these, or 0.
    """
    units = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "B": 1}
    unit = next((unit for unit in units if text.strip().upper().endswith(unit)), "")
    number = text.strip()[: len(text.strip()) - len(unit)].strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", number) and float(number) > 0:
        return int(float(number) * units.get(unit, 1))
    raise ConfigError(f"{option} is no size", got=text, wanted="such as 80GB, 512MB or 80000000000")
