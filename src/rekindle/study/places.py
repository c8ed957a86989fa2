"""What a directory is: a finished run, a study. Imports nothing heavy, for the report asks too."""

from __future__ import annotations

from pathlib import Path

from rekindle.errors import DataError
from rekindle.files import read_json

MANIFEST, DECLARED = "manifest.json", "study.yaml"


def is_finished(place: Path) -> bool:
    """Whether a run directory holds a finished run."""
    manifest = place / MANIFEST
    return manifest.exists() and read_json(manifest).get("finished") is not None


def is_study(place: Path) -> bool:
    """Whether a directory holds a study."""
    try:
        return (place / DECLARED).exists() and "study" in read_json(place / MANIFEST)
    except DataError:
        return False
