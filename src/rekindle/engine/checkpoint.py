"""Checkpoints that are complete or do not count.

A save is written aside, every file synced and hashed, the directory renamed into place, and the
completeness marker with the hashes written last. A load verifies the hashes; the newest complete
checkpoint wins, torn ones are named and skipped.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from rekindle.errors import CheckpointError, RunDirectoryError
from rekindle.files import (
    explained_io,
    free_bytes,
    fsync_dir,
    fsync_file,
    read_json,
    remove_tree,
    rename,
    sha256_file,
    write_json,
)

MARKER = "COMPLETE.json"


class Found(NamedTuple):
    """A verified checkpoint, and the torn ones that were passed over."""

    directory: Path | None
    marker: dict[str, Any]
    torn: list[str]  # one line each


def checkpoint_name(step: int) -> str:
    """`step-000100`."""
    return f"step-{step:06d}"


def save_checkpoint(
    root: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    extra: dict[str, Any],
    needed: int,
    keep: int,
) -> Path:
    """Save atomically, then drop all but the newest `keep` complete checkpoints.

    Args:
        root: the directory of checkpoints.
        write: puts the files into a given directory.
        extra: plain data kept in the marker.
        needed: bytes that the save takes, checked against the free space first.

    Raises:
        RunDirectoryError: no space or no permission; earlier checkpoints are untouched.
    """
    with explained_io(root, "creating"):
        root.mkdir(parents=True, exist_ok=True)
    clean_aside(root)
    _refuse_full_disk(root, step, needed)
    name = checkpoint_name(step)
    aside, target = root / f".{name}.{os.getpid()}.tmp", root / name
    try:
        with explained_io(target, "saving"):
            aside.mkdir()
            try:
                write(aside)
            except SafetensorError as error:
                raise RunDirectoryError(
                    f"failed saving {target}",
                    got=str(error),
                    why="the last complete checkpoint is kept",
                    fix="free some space if the disk is full, then --resume",
                ) from error
            hashes = {}
            for file in sorted(aside.iterdir()):
                fsync_file(file)
                hashes[file.name] = sha256_file(file)
            fsync_dir(aside)
            remove_tree(target)  # a torn one of the same step
            rename(aside, target)
        write_json(target / MARKER, {"step": step, "sha256": hashes, **extra})
    finally:
        remove_tree(aside)
    _drop_old(root, keep)
    return target


def _refuse_full_disk(root: Path, step: int, needed: int) -> None:
    free = free_bytes(root)
    if free < needed:
        raise RunDirectoryError(
            f"no space for the checkpoint of step {step} in {root}",
            got=f"{free:,} bytes free",
            wanted=f"about {needed:,}",
            why="the last complete checkpoint is kept",
            fix="free some space, then --resume",
        )


def find_checkpoint(root: Path) -> Found:
    """The newest complete checkpoint, verified by hash."""
    torn: list[str] = []
    for directory in sorted(_all(root), reverse=True):
        try:
            marker = verify(directory)
        except CheckpointError as error:
            torn.append(error.what)
            continue
        return Found(directory, marker, torn)
    return Found(None, {}, torn)


def verify(directory: Path) -> dict[str, Any]:
    """The marker of a checkpoint whose files are all there and unaltered.

    Raises:
        CheckpointError: no marker, a file missing, or a hash that differs; the file is named.
    """
    path = directory / MARKER
    if not path.exists():
        raise CheckpointError(f"{directory.name} is torn: it has no {MARKER}")
    try:
        marker = read_json(path)
        hashes = dict(marker["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{directory.name} is torn: {MARKER} cannot be read") from error
    for name, digest in hashes.items():
        file = directory / name
        if not file.exists():
            raise CheckpointError(f"{directory.name} is torn: {name} is missing")
        if sha256_file(file) != digest:
            raise CheckpointError(f"{directory.name} is altered: {name} has another hash")
    return dict(marker)


def clean_aside(root: Path) -> None:
    """Remove what interrupted saves left beside the checkpoints."""
    for path in root.glob(".step-*.tmp") if root.exists() else ():
        remove_tree(path)


def _all(root: Path) -> list[Path]:
    return [path for path in root.glob("step-*") if path.is_dir()] if root.exists() else []


def _drop_old(root: Path, keep: int) -> None:
    complete = sorted(path for path in _all(root) if (path / MARKER).exists())
    for path in complete[:-keep]:
        # Without its marker first, so that a kill half-way leaves no checkpoint that looks whole.
        (path / MARKER).unlink()
        remove_tree(path)
