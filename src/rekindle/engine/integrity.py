"""Whether what a run wrote is still what it wrote: at a glance when a model is loaded, or by hash.

A run's manifest has size, time and hash of each file of `final/`. A file of the same size and time
is taken for the same; any other is hashed, so that a copied run is still known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rekindle import testbed
from rekindle.engine.checkpoint import Marker, refuse_swapped, verify
from rekindle.engine.manifest import FileRecord, Manifest
from rekindle.engine.progress import say
from rekindle.engine.rundir import CONFIG, MANIFEST, config_fault
from rekindle.errors import CheckpointError, DataError, ModelError, RunDirectoryError
from rekindle.files import AppendLog, LogMark, explained_io, read_json, sha256_file

FINAL = "final"
# A file that is added counts where loading a model may read it; a README may be added.
_LOADED = {".safetensors", ".json", ".jinja", ".model", ".txt", ".py", ".bin"}


class Part(NamedTuple):
    """A part of a run, and what is wrong with it: "" nothing, None: that cannot be known."""

    name: str
    fault: str | None


def located(name: str) -> str:
    """`testbed.located`, where a run's `final/` is as the run left it.

    Raises:
        ModelError: there is no such testbed model, or the directory was changed; how.
    """
    source = testbed.located(name)
    check_final(source)
    return source


def record_files(directory: Path, hashes: Mapping[str, str]) -> dict[str, FileRecord]:
    """Path below it -> what is noted of a file, of all whose hashes are given."""
    records: dict[str, FileRecord] = {}
    for name, digest in hashes.items():
        about = (directory / name).stat()
        records[name] = {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "sha256": digest}
    return records


def check_final(source: Path | str) -> None:
    """Refuse the `final/` of a run that was changed since; of an old run, say once that it cannot
    be known. Any other directory, and what is no path, passes.

    Raises:
        ModelError: files are missing, changed or added; they are named.
        DataError: the run's manifest is damaged.
    """
    directory = Path(os.path.realpath(source))
    manifest = _manifest_of(directory.parent) if directory.name == FINAL else None
    if manifest is None:
        return
    records = manifest.get("final")
    if not records:
        _tell_unknown(directory)
        return
    faults = list(_changes(directory, records, by_hash=False))
    if faults:
        raise ModelError(
            f"{directory} was changed since its run ended",
            got="; ".join(faults[:5]),
            wanted=f"the files that {MANIFEST} of the run has the hashes of",
            why="results would be of another model than the run's",
            fix="restore it; to use it as it is, copy it to a place of its own",
        )


@cache
def _tell_unknown(directory: Path) -> None:
    say(f"{directory}: its run kept no hashes, so it cannot be known whether it was changed")


def _manifest_of(directory: Path) -> Manifest | None:
    """The manifest of a run; None where the directory is none."""
    path = directory / MANIFEST
    if not path.is_file():
        return None
    tree = read_json(path)
    ours = isinstance(tree, dict) and {"rekindle", "fingerprints", "finished"} <= tree.keys()
    manifest: Manifest | None = tree if ours else None
    return manifest


def _changes(directory: Path, records: Mapping[str, FileRecord], *, by_hash: bool) -> Iterator[str]:
    """What differs from the records, a phrase a file."""
    with explained_io(directory, "reading"):
        for name, record in records.items():
            path = directory / name
            if not path.is_file():
                yield f"{name} is missing"
                continue
            about = path.stat()
            if about.st_size != record["size"]:
                yield f"{name} has {about.st_size:,} bytes, not {record['size']:,}"
                continue
            known = not by_hash and about.st_mtime_ns == record["mtime_ns"]
            if not known and sha256_file(path) != record["sha256"]:
                yield f"{name} has another hash"
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if path.suffix in _LOADED and name not in records and path.is_file():
                yield f"{name} was added"


# --- all of a run, by hash


def verify_run(directory: Path) -> list[Part]:
    """Every part of a run that its manifest or a checkpoint has a hash of, looked at by hash.

    Raises:
        RunDirectoryError: it is no run directory.
    """
    try:
        manifest = _manifest_of(directory)
    except DataError as error:
        return [Part(MANIFEST, f"is damaged: {error.got}")]
    if manifest is None:
        raise RunDirectoryError(
            f"{directory} is no run directory", wanted=f"a {MANIFEST} of rekindle in it"
        )
    fault = config_fault(directory, manifest) or ""
    parts = [Part(CONFIG, fault if fault or "config" in manifest else None)]
    parts += _verify_checkpoints(directory, manifest)
    parts += _verify_stages(directory, manifest)
    if manifest["finished"] is not None:
        parts.append(_verify_final(directory / FINAL, manifest))
    return parts


def _verify_final(directory: Path, manifest: Manifest) -> Part:
    if (directory.parent / "spent.json").exists():
        return Part(FINAL, "" if not directory.exists() else None)  # from an archive, without it
    if not directory.is_dir():
        return Part(FINAL, "is missing")
    records = manifest.get("final")
    faults = list(_changes(directory, records, by_hash=True)) if records else []
    return Part(FINAL, "; ".join(faults) if records else None)


def _verify_checkpoints(directory: Path, manifest: Manifest) -> Iterator[Part]:
    root = directory / "checkpoints"
    noted = manifest.get("checkpoints", {})
    there = {path.name: path for path in root.glob("step-*") if path.is_dir()}
    markers: dict[str, Marker] = {}
    for name in sorted({*there, *noted}):
        part = f"checkpoints/{name}"
        if name not in there:
            yield Part(part, "is missing")
            continue
        try:
            markers[name] = verify(there[name])
            if "checkpoints" in manifest:
                refuse_swapped(there[name], markers[name], manifest)
        except (CheckpointError, RunDirectoryError) as error:
            yield Part(part, error.what)
        else:
            yield Part(part, "")
    logs: Mapping[str, Sequence[Any]] = {}
    if markers:
        logs = markers[max(markers)].get("logs", {})
    elif not (directory / "spent.json").exists():  # an archive has fewer rows
        logs = manifest.get("logs", {})
    yield from _verify_logs(directory, logs)


def _verify_logs(directory: Path, logs: Mapping[str, Sequence[Any]]) -> Iterator[Part]:
    """The rows that a checkpoint counts on, or that a finished run ended with."""
    for name, mark in logs.items():
        try:
            AppendLog(directory / f"{name}.jsonl").check(LogMark(*mark))
        except RunDirectoryError as error:
            yield Part(f"{name}.jsonl", error.what)
        else:
            yield Part(f"{name}.jsonl", "")


def stage_fault(directory: Path, noted: str) -> str:
    """What is wrong with a finished stage whose record's hash, or whose run's id, was noted."""
    if not directory.is_dir():
        return "is gone"
    record = directory / "stage.json"
    if not record.exists() and not (directory / MANIFEST).exists():
        return f"has no stage.json and no {MANIFEST}"
    if record.exists():
        return "" if sha256_file(record) == noted else "has another stage.json than the run wrote"
    own = _manifest_of(directory)
    return "" if own is not None and own["id"] == noted else "is the stage of another run"


def _verify_stages(directory: Path, manifest: Manifest) -> Iterator[Part]:
    noted = manifest.get("stages", {})
    for name in sorted(noted):
        place = directory / "stages" / name
        try:
            fault = stage_fault(place, noted[name]) or _rows_fault(place)
        except DataError as error:
            fault = error.what
        yield Part(f"stages/{name}", fault)
        if not fault and (place / MANIFEST).exists():
            yield from (Part(f"stages/{name}/{part}", why) for part, why in verify_run(place))


def _rows_fault(place: Path) -> str:
    if not (place / "stage.json").exists():
        return ""
    rows = place / "rows.jsonl"
    if not rows.exists():
        return "has no rows.jsonl"
    same = sha256_file(rows) == read_json(place / "stage.json").get("rows_sha256")
    return "" if same else "has other rows than its stage.json says"
