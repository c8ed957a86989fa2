"""A study's own directory inside the settings of its runs.

Models that a study makes, preparations and other arms' runs are named by paths below its directory.
The same study may be resumed by another spelling of that directory, be moved, or come from an
archive: its settings have not changed. They are compared with the directory written as `{study}`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

import yaml

from rekindle.engine.rundir import note_config
from rekindle.files import each_leaf, write_atomic
from rekindle.study.schema import Excerpt
from rekindle.study.store.declaration import stored_tree
from rekindle.study.store.layout import MANIFEST, RESULTS, is_finished, read_head, read_stored

ROOT = "{study}"
REMOVE_RUN = "restore it, or remove the run's directory: --resume makes it again"
_BELOW = ("runs", "prepared", "models")


T = TypeVar("T")


class _Run(Excerpt):
    out: str


class _Arm(Excerpt):
    runs: list[_Run]


class _RunPaths(Excerpt):
    """The directories of runs in study.json."""

    arms: dict[str, _Arm]


def known_roots(out: Path) -> tuple[str, ...]:
    """The names that the directory of a study has or had: now, absolute, and as noted before.

    DataError where its manifest or results are damaged.
    """
    known = [str(out), os.path.relpath(out), str(out.absolute()), str(out.resolve())]
    if (out / MANIFEST).exists():
        known += read_head(out).places
    if (out / RESULTS).exists():  # the first studies noted their directory only here
        results = read_stored(
            out / RESULTS,
            _RunPaths,
            wanted="arms with the directories of their runs",
            fix="remove it: --resume writes it again",
        )
        paths = [Path(run.out) for arm in results.arms.values() for run in arm.runs]
        known += [str(path.parents[3]) for path in paths if len(path.parents) > 3]
    return tuple(dict.fromkeys(known))


def rebased(value: T, roots: Sequence[str], to: str = ROOT) -> T:
    """Plain data with each path below one of `roots` written as one below `to`."""
    if not roots:
        return value
    starts = ["" if root == "." else root.rstrip("/") + "/" for root in roots]
    longest_first = "|".join(re.escape(start) for start in sorted(starts, key=len, reverse=True))
    path = re.compile(rf"(?<![\w./~+-])(?:{longest_first})({'|'.join(_BELOW)})(?=/|$)")

    def moved(item: object) -> object:
        if not isinstance(item, str):
            return item
        return path.sub(lambda match: os.path.join(to, match[1]), item)

    return cast("T", each_leaf(value, moved))


def move_unfinished(out: Path, places: Sequence[Path], roots: Sequence[str]) -> None:
    """Write `out` for all its other names into the configs of runs that are not finished.

    A run continues only with the config that it began with. Finished ones stay as they are.
    `places`: directories of runs and preparations; `roots`: see `known_roots`.
    """
    for place in places:
        if is_finished(place):
            continue
        for path in [place / "config.yaml", *place.glob("stages/*/config.yaml")]:
            if not path.exists():
                continue
            before = stored_tree(path, fix=REMOVE_RUN)
            after = rebased(before, roots, str(out))
            if after != before:
                text = yaml.safe_dump(after, sort_keys=False, allow_unicode=True)
                note_config(path.parent, text)
                write_atomic(path, text)
