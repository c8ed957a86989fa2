"""A study's own directory inside what its runs were given, told apart from what they were asked.

Models that a study makes, preparations and other arms' runs are named by paths below its directory.
The same study may be resumed by another spelling of that directory, be moved, or come from an
archive: its runs were asked the same all the while.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rekindle.errors import DataError
from rekindle.files import write_atomic
from rekindle.study.store.layout import MANIFEST, ODD, RESULTS, is_finished, read_object
from rekindle.study.store.read import stored_tree

ROOT = "{study}"
AGAIN = "restore it, or remove the run's directory: --resume makes it again"
_BELOW = ("runs", "prepared", "models")


def known_roots(out: Path) -> tuple[str, ...]:
    """The names that the study in `out` has or had: as given now, as it stands, as noted before.

    Raises:
        DataError: its manifest or results are damaged.
    """
    known = [str(out), os.path.relpath(out), str(out.absolute()), str(out.resolve())]
    if (out / MANIFEST).exists():
        known += read_object(out / MANIFEST).get("places", [])
    if (out / RESULTS).exists():  # the first studies noted their place only here
        known += _places_in(out / RESULTS)
    return tuple(dict.fromkeys(known))


def _places_in(results: Path) -> list[str]:
    arms = read_object(results, arms=dict)["arms"]
    try:
        places = [run["out"] for arm in arms.values() for run in arm["runs"]]
        return [str(Path(place).parents[3]) for place in places]
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{results} {ODD}",
            got=f"arms: {arms}",
            wanted="arms with the directories of their runs",
            fix="remove it: --resume writes it again",
        ) from error


def respelt(value: Any, roots: Sequence[str], to: str = ROOT) -> Any:
    """Plain data with each path below one of `roots` written as one below `to`."""
    if not roots:
        return value
    starts = ["" if root == "." else root.rstrip("/") + "/" for root in roots]
    longest_first = "|".join(re.escape(start) for start in sorted(starts, key=len, reverse=True))
    path = re.compile(rf"(?<![\w./~+-])(?:{longest_first})({'|'.join(_BELOW)})(?=/|$)")

    def walk(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: walk(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [walk(inner) for inner in item]
        if isinstance(item, str):
            return path.sub(lambda found: os.path.join(to, found[1]), item)
        return item

    return walk(value)


def move_unfinished(out: Path, places: Sequence[Path], roots: Sequence[str]) -> None:
    """Write `out` for all its other names into the configs of runs that are to go on.

    A run goes on only with the config that it was begun with. Finished ones stay as they are.

    Args:
        places: run directories, and those of preparations.
        roots: see `known_roots`.
    """
    for place in places:
        if is_finished(place):
            continue
        for path in [place / "config.yaml", *place.glob("stages/*/config.yaml")]:
            if not path.exists():
                continue
            before = stored_tree(path, fix=AGAIN)
            after = respelt(before, roots, str(out))
            if after != before:
                write_atomic(path, yaml.safe_dump(after, sort_keys=False, allow_unicode=True))
