"""What lies in a study's directory, and how its files are read.

A file that is damaged, or another version's, is reported as that, with the keys at fault. Imports
nothing heavy, for the report reads the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from rekindle.errors import DataError
from rekindle.files import read_json
from rekindle.study.schema import FROM_FILE, RESULTS_FORMAT, ManifestHead, StudyResults

MANIFEST, DECLARED, RESULTS = "manifest.json", "study.yaml", "study.json"
SESSIONS = "sessions.json"  # when it ran, with how many workers, and what that cost
SPENT = "spent.json"  # of a run that came from an archive, whose logs are thinned
RESTORE = "restore it, resume with the version that made it, or start with another --out"
_SHOWN = 5  # faults that are named; of more, how many

S = TypeVar("S")


def damaged(path: Path, got: object, wanted: str | None, fix: str = RESTORE) -> DataError:
    """The error of a file that no study of this version wrote like that."""
    return DataError(f"{path} is damaged, or another version's", got=got, wanted=wanted, fix=fix)


def read_stored(path: Path, kind: type[S], *, wanted: str = "", fix: str = RESTORE) -> S:
    """What a JSON file of a study or a run holds: a model of this `kind`, or a list of models.

    `wanted`, `fix`: for the error, where more can be said than that it is a JSON object.

    Raises:
        DataError: the file is missing, broken, or holds something else; what.
    """
    tree = read_json(path)
    try:
        return TypeAdapter(kind).validate_python(tree, context=FROM_FILE)
    except ValidationError as error:
        got = faults(error) if error.errors()[0]["loc"] else tree
        raise damaged(path, got, wanted or "a JSON object", fix) from error


def faults(error: ValidationError) -> str:
    """What pydantic phrases, a phrase a key: that it is missing, or its value and what is wrong."""
    phrases = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"])) or "the whole"
        missing = fault["type"] == "missing"
        phrases.append(f"no '{key}'" if missing else f"{key}: {fault['input']!r} ({fault['msg']})")
    more = f"; and {len(phrases) - _SHOWN} more" if len(phrases) > _SHOWN else ""
    return "; ".join(phrases[:_SHOWN]) + more


def read_results(place: Path) -> StudyResults:
    """study.json of a study directory.

    Raises:
        DataError: missing, broken, of another format, or without keys that every version writes.
    """
    path = place / RESULTS
    tree = read_json(path)
    if not isinstance(tree, Mapping) or "comparisons" not in tree:
        raise DataError(f"{path} holds no results of a study", fix="check the path")
    known = tree.get("format", 1)  # the first ones had none
    if known != RESULTS_FORMAT:
        raise DataError(
            f"{path} was written by another version of rekindle",
            got=f"format {known}",
            wanted=f"format {RESULTS_FORMAT}",
            why="its numbers could mean something else",
            fix="rekindle study ... --resume with this version writes it again from the runs",
        )
    try:
        return StudyResults.read(tree)
    except ValidationError as error:
        raise DataError(
            f"{path} is not as this version writes it",
            got=faults(error),
            why="with half of its keys it would say something else",
            fix=f"rekindle study STUDY.yaml --out {place} --resume writes it again, with the "
            "version of rekindle that made the runs or a later one",
        ) from error


def counted(unit: str) -> str:
    """What a budget's unit counts, with its noun: `updates`, `generated tokens`."""
    return unit if unit == "updates" else f"{unit} tokens"


def read_head(place: Path) -> ManifestHead:
    """The keys of a manifest that any version has; DataError where it is missing or damaged."""
    return read_stored(place / MANIFEST, ManifestHead)


def is_finished(place: Path) -> bool:
    """Whether a run directory holds a finished run."""
    return (place / MANIFEST).exists() and read_head(place).finished is not None


def is_study(place: Path) -> bool:
    """Whether a directory holds a study."""
    try:
        return (place / DECLARED).exists() and read_head(place).study is not None
    except DataError:
        return False
