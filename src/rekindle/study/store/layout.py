"""What a directory is: a finished run, a study. Imports nothing heavy, for the report asks too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rekindle.errors import DataError
from rekindle.files import read_json

MANIFEST, DECLARED, RESULTS = "manifest.json", "study.yaml", "study.json"
SESSIONS = "sessions.json"  # when it ran, with how many workers, and what that cost
SPENT = "spent.json"  # of a run that came from an archive, whose logs are thinned
ODD = "is damaged, or another version's"
RESTORE = "restore it, go on with the version that made it, or begin with another --out"
RESULTS_FORMAT = 1  # of study.json; raised when what its numbers mean changes


def read_object(path: Path, **fields: type) -> dict[str, Any]:
    """The JSON object in a file that a study or a run wrote, with these fields of these types.

    Raises:
        DataError: the file is missing, broken, or holds something else; what.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} {ODD}", got=found, wanted="a JSON object", fix=RESTORE)
    for name, kind in fields.items():
        if name not in found or not isinstance(found[name], kind):
            raise DataError(
                f"{path} {ODD}",
                got=f"{name}: {found[name]!r}" if name in found else f"no '{name}'",
                wanted=f"'{name}' as a JSON {_NAMES[kind]}",
                fix=RESTORE,
            )
    return found


_NAMES = {str: "string", dict: "object", list: "list", object: "value"}


def read_results(place: Path) -> dict[str, Any]:
    """The content of a study's study.json.

    Raises:
        DataError: missing, broken, or of another format.
    """
    found = read_json(place / RESULTS)
    if not isinstance(found, dict) or "comparisons" not in found:
        raise DataError(f"{place / RESULTS} holds no results of a study", fix="check the path")
    known = found.get("format", 1)  # the first ones had none
    if known != RESULTS_FORMAT:
        raise DataError(
            f"{place / RESULTS} was written by another version of rekindle",
            got=f"format {known}",
            wanted=f"format {RESULTS_FORMAT}",
            why="its numbers could mean something else",
            fix="rekindle study ... --resume with this version writes it anew from the runs",
        )
    return found


def counted(unit: str) -> str:
    """What a budget's unit counts, with its noun: `updates`, `generated tokens`."""
    return unit if unit == "updates" else f"{unit} tokens"


def is_finished(place: Path) -> bool:
    """Whether a run directory holds a finished run."""
    manifest = place / MANIFEST
    return manifest.exists() and read_object(manifest).get("finished") is not None


def is_study(place: Path) -> bool:
    """Whether a directory holds a study."""
    try:
        return (place / DECLARED).exists() and "study" in read_object(place / MANIFEST)
    except DataError:
        return False
