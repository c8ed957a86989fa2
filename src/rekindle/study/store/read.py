"""What a study wrote, read again: a file that is damaged or another version's is told as that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rekindle.errors import ConfigError, DataError
from rekindle.study.plan.study_file import Study
from rekindle.study.store.layout import DECLARED, MANIFEST, ODD, RESTORE, read_object
from rekindle.training.recipe import checked


def stored_manifest(out: Path) -> dict[str, Any]:
    """The manifest of a study, with everything that its results take from it.

    Raises:
        DataError: missing, broken, or without one of these; which.
    """
    path = out / MANIFEST
    anything = {"commit": object, "dirty": object, "command": object}
    found = read_object(path, fingerprints=dict, changes=list, **anything)
    if not isinstance(found["fingerprints"].get("declared"), str):
        raise _odd(path, found["fingerprints"], "the hash of what was declared in 'fingerprints'")
    if not all(isinstance(note, dict) and "finished_runs" in note for note in found["changes"]):
        raise _odd(path, found["changes"], "'changes': objects, each with 'finished_runs'")
    if not isinstance(found.get("places", []), list):
        raise _odd(path, found["places"], "'places' as a JSON list")
    for name in ("primary", "rule", "declaration"):
        if not isinstance(found.get(name, {}), dict):
            raise _odd(path, found[name], f"'{name}' as a JSON object")
    return found


def stored_tree(path: Path, *, fix: str = RESTORE) -> dict[str, Any]:
    """The mapping in a YAML file that a study or a run wrote.

    Raises:
        DataError: it is not YAML, or no mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _odd(path, str(error), "YAML", fix) from error
    if not isinstance(tree, dict):
        raise _odd(path, "nothing" if tree is None else tree, "keys and values", fix)
    return tree


def stored_study(out: Path) -> tuple[dict[str, Any], Study]:
    """What was declared last in a study directory, as it stands there and checked.

    Raises:
        DataError: study.yaml is damaged, or has keys or values that this version does not know.
    """
    tree = stored_tree(out / DECLARED)
    return tree, known_study(tree, out / DECLARED)


def known_study(tree: dict[str, Any], path: Path) -> Study:
    """The study that is written in `path` as plain data.

    Raises:
        DataError: it has keys or values that this version does not know.
    """
    try:
        return checked(Study, tree, "")
    except ConfigError as error:
        got = error.what if error.got is None else f"{error.what}: {error.got}"
        raise _odd(path, got, "the study file as this version writes it") from error


def _odd(path: Path, got: object, wanted: str, fix: str = RESTORE) -> DataError:
    return DataError(f"{path} {ODD}", got=got, wanted=wanted, fix=fix)
