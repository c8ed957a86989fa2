"""Files of a run directory, read as far as they can be; what cannot be read becomes a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rekindle.files import read_json


def read_rows(path: Path, notes: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """The readable rows of a JSONL log as (line, object); the others are counted in `notes`.

    A last line without a newline is what a kill leaves behind, so it is told apart from damage.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    broken: list[int] = []
    torn = False
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # ValueError: also integers of 5,000 digits
                row = None
            if isinstance(row, dict):
                rows.append((line_number, row))
            elif line.endswith("\n"):
                broken.append(line_number)
            else:
                torn = True
    if torn:
        notes.append(
            f"The last line of {path.name} is cut off, as a kill in mid-write leaves it; it is "
            "not shown."
        )
    if broken:
        listed = ", ".join(str(n) for n in broken[:5]) + (" …" if len(broken) > 5 else "")
        notes.append(f"{path.name}: {len(broken)} unreadable line(s) left out (line {listed}).")
    return rows


def read_object(path: Path, notes: list[str], otherwise: str) -> Mapping[str, Any]:
    """A JSON object; empty, with a note, where the file is missing or something else."""
    if not path.is_file():
        notes.append(f"{path.name} is missing: {otherwise}.")
        return {}
    try:
        found = read_json(path)
    except (ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0].replace(str(path), path.name)
        notes.append(f"{path.name} is left out: {reason}.")
        return {}
    if not isinstance(found, dict):
        notes.append(f"{path.name} is left out: it is not a JSON object.")
        return {}
    return found
