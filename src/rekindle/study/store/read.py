"""The study file and the manifest in a study's directory, read again and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from rekindle.errors import ConfigError
from rekindle.study.plan.study_file import Study
from rekindle.study.schema import StudyManifest
from rekindle.study.store.layout import DECLARED, MANIFEST, RESTORE, damaged, read_stored
from rekindle.training.recipe import checked


def stored_manifest(out: Path) -> StudyManifest:
    """The manifest of a study.

    Raises:
        DataError: missing, broken, or without one of its keys; which.
    """
    return read_stored(
        out / MANIFEST,
        StudyManifest,
        wanted="the manifest of a study: 'fingerprints' with the hash of what was declared, "
        "'changes' with 'finished_runs' each, and what made it",
    )


def stored_tree(path: Path, *, fix: str = RESTORE) -> Mapping[str, object]:
    """The mapping in a YAML file that a study or a run wrote.

    Raises:
        DataError: it is not YAML, or no mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damaged(path, str(error), "YAML", fix) from error
    if not isinstance(tree, dict):
        raise damaged(path, "nothing" if tree is None else tree, "keys and values", fix)
    return tree


def stored_study(out: Path) -> tuple[Mapping[str, object], Study]:
    """What was declared last in a study directory, as it stands there and checked.

    Raises:
        DataError: study.yaml is damaged, or has keys or values that this version does not know.
    """
    tree = stored_tree(out / DECLARED)
    return tree, parse_study(tree, out / DECLARED)


def parse_study(tree: Mapping[str, object], path: Path) -> Study:
    """The study that is written in `path` as plain data.

    Raises:
        DataError: it has keys or values that this version does not know.
    """
    try:
        return checked(Study, tree, "")
    except ConfigError as error:
        got = error.what if error.got is None else f"{error.what}: {error.got}"
        raise damaged(path, got, "the study file as this version writes it") from error
