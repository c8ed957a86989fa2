"""Checkpoints that are complete or do not count.

A save is written aside, every file synced and hashed, the directory renamed into place, and the
completeness marker with the hashes written last. A load verifies the hashes; the newest complete
checkpoint wins, torn ones are named and skipped. One process at a time may save to a root: the
owner of the run directory's lock.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict, cast

from rekindle.engine.manifest import Manifest
from rekindle.errors import CheckpointError, DataError, RunDirectoryError
from rekindle.files import (
    clear_leftovers,
    explained_io,
    free_bytes,
    read_json,
    remove_tree,
    replace_dir,
    seal_tree,
    sha256_file,
    write_json,
    written_aside,
)

MARKER = "COMPLETE.json"
_NAME = re.compile(r"step-(\d+)")


class Marker(TypedDict):
    """The content of the completeness marker."""

    step: int
    sha256: dict[str, str]  # of each file
    self: NotRequired[str]  # of the marker itself
    run: NotRequired[str]  # id of the run
    logs: NotRequired[Mapping[str, tuple[int, str]]]  # (length in bytes, SHA-256) of each
    state_format: NotRequired[int]


class NewestCheckpoint(NamedTuple):
    """The newest verified checkpoint, and the torn ones that are newer."""

    directory: Path | None
    marker: Marker | None
    torn: list[str]  # one line each


def checkpoint_name(step: int) -> str:
    """`step-000100`."""
    return f"step-{step:06d}"


def checkpoint_step(name: str) -> int:
    """100, of `step-000100`."""
    return int(name.removeprefix("step-"))


def save_checkpoint(
    root: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    extra: Mapping[str, object],
    needed: int,
    keep: int,
) -> Path:
    """Save atomically, then drop what is no longer needed.

    The newest `keep` complete ones stay, this one among them. Torn ones go now that there is a
    newer complete one, and so do those of later steps: `step` was reached from an older checkpoint
    because they did not pass verification.

    Args:
        step: how many are finished.
        write: puts the files into a given directory.
        extra: kept in the marker.
        needed: bytes that the save takes, checked against the free space first.
        keep: how many, at least 1.

    Raises:
        RunDirectoryError: no space or no permission; earlier checkpoints are untouched, and
            nothing of this one is left.
    """
    clear_leftovers(root)
    refuse_full_disk(root, needed, f"the checkpoint of step {step}")
    target = root / checkpoint_name(step)
    placed = False
    try:
        with written_aside(target, "saving") as aside:
            write(aside)
            hashes = seal_tree(aside)
            placed = True
            replace_dir(aside, target)
        marker = cast(Marker, {"step": step, "sha256": hashes, **extra})
        write_json(target / MARKER, _signed(marker))
    except RunDirectoryError:
        if placed:
            remove_tree(target)
        raise
    for path in _all(root):
        if _step(path) > step:
            remove_tree(path)
    drop_old(root, step, keep=keep)
    return target


def refuse_full_disk(directory: Path, needed: int, purpose: str) -> None:
    """Raise `RunDirectoryError` when fewer than `needed` bytes are free where `directory` is."""
    free = free_bytes(directory)
    if free < needed:
        raise RunDirectoryError(
            f"no space left for {purpose} in {directory}",
            got=f"{free:,} bytes free",
            wanted=f"about {needed:,}",
            why="nothing was written; the last complete checkpoint is kept",
            fix="free some space, then --resume",
        )


def find_checkpoint(root: Path, manifest: Manifest | None = None) -> NewestCheckpoint:
    """The newest complete checkpoint, verified by hash, and by what the run's manifest says.

    Raises:
        RunDirectoryError: it is another run's, or none is left of those in the manifest.
    """
    torn: list[str] = []
    noted = {} if manifest is None else manifest.get("checkpoints", {})
    gone = [name for name in noted if not (root / name).exists()]
    for directory in reversed(_all(root)):
        try:
            marker = verify(directory)
        except CheckpointError as error:
            torn.append(error.what)
            continue
        if manifest is not None and "checkpoints" in manifest:
            refuse_swapped(directory, marker, manifest)
        torn += [f"{name} is gone" for name in gone if checkpoint_step(name) > _step(directory)]
        return NewestCheckpoint(directory, marker, torn)
    if gone:
        raise RunDirectoryError(
            f"the checkpoints in {root} are gone",
            got=f"no complete one; missing: {', '.join(gone)}",
            why="the run would begin again, and its logs would be cut to nothing",
            fix="put one of them back, or start again with --overwrite",
        )
    return NewestCheckpoint(None, None, torn)


def refuse_swapped(directory: Path, marker: Marker, manifest: Manifest) -> None:
    """Refuse a complete checkpoint that the run with this manifest did not write.

    Raises:
        RunDirectoryError: it is another run's, or not the one that was noted.
    """
    noted = manifest.get("checkpoints", {}).get(directory.name)
    ours = marker.get("run") == manifest["id"] if noted is None else marker["self"] == noted
    if not ours:
        raise RunDirectoryError(
            f"{directory} is not a checkpoint of this run",
            got=f"one of run {marker.get('run', 'unknown')}",
            wanted=f"one of run {manifest['id']}, as manifest.json has it",
            why="the run would go on from other weights than its own",
            fix="put its own back, remove this one to go on from an older one, or start again with "
            "--overwrite",
        )


def noted_checkpoints(root: Path) -> dict[str, str]:
    """Name -> hash of the marker of each complete checkpoint, for the manifest."""
    complete = (path for path in _all(root) if (path / MARKER).exists())
    return {path.name: read_json(path / MARKER)["self"] for path in complete}


def verify(directory: Path) -> Marker:
    """The marker of a checkpoint whose files are all there and unaltered.

    Raises:
        CheckpointError: no marker, a file missing, or a hash that differs; the file is named.
        RunDirectoryError: a file cannot be read.
    """
    path = directory / MARKER
    if not path.exists():
        raise CheckpointError(f"{directory.name} is torn: it has no {MARKER}")
    try:
        marker = cast(Marker, dict(read_json(path)))
        hashes = dict(marker["sha256"])
    except (DataError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{directory.name} is torn: {MARKER} cannot be read") from error
    if marker != _signed(marker) or marker.get("step") != _step(directory):
        raise CheckpointError(f"{directory.name} is altered: {MARKER} has another hash")
    with explained_io(directory, "reading"):
        for name, digest in hashes.items():
            file = directory / name
            if not file.is_file():
                raise CheckpointError(f"{directory.name} is torn: {name} is missing")
            if sha256_file(file) != digest:
                raise CheckpointError(f"{directory.name} is altered: {name} has another hash")
    return marker


def drop_old(root: Path, step: int, *, keep: int) -> None:
    """Of the checkpoints up to the complete one of `step`, leave the `keep` newest complete."""
    older = [path for path in _all(root) if _step(path) <= step]
    kept = [path for path in older if (path / MARKER).exists()][-keep:]
    for path in older:
        if path not in kept:
            remove_tree(path)


def _signed(marker: Marker) -> Marker:
    """The marker with a hash of its own: it says how far the logs had grown."""
    plain = {key: value for key, value in marker.items() if key != "self"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return cast(Marker, {**plain, "self": digest})


def _all(root: Path) -> list[Path]:
    """By step."""
    paths = root.iterdir() if root.is_dir() else ()
    found = (path for path in paths if _NAME.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=_step)


def _step(directory: Path) -> int:
    return checkpoint_step(directory.name)
