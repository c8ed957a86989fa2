"""A study as small files, read: unpacked for its page, or to be gone on with.

    study.json  study.yaml  manifest.json  sessions.json     as the study wrote them
    runs.jsonl.xz                                            one line a finished run

What a line holds, and how they are written, is in `archiving.py`. This half imports nothing heavy,
for the report reads archives.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import replace_dir, write_atomic, written_aside
from rekindle.study.store.layout import DECLARED, MANIFEST, RESULTS, SESSIONS

RUNS = "runs.jsonl.xz"
OWN = (RESULTS, MANIFEST, SESSIONS)  # JSON of the study itself


def is_archive(place: Path) -> bool:
    """Whether a directory holds an archived study, and not the study itself."""
    return (place / RUNS).is_file() and not (place / "runs").exists()


def take_up(archive: Path, out: Path, *, check: Callable[[Path], None] | None = None) -> None:
    """Make `out` a study directory with the finished runs of an archive, to be resumed.

    Args:
        archive, out: from where, and to where.
        check: raises what speaks against it, given a directory with the archive's content; `out`
            is made only after that.

    Raises:
        RunDirectoryError: `archive` is none, or `out` exists.
        DataError: the archive is damaged.
    """
    refuse_other(archive)
    refuse_taken(out)
    with written_aside(out, "unpacking to") as aside:
        _unpack(archive, aside)
        if check is not None:
            check(aside)
        replace_dir(aside, out)


def refuse_other(archive: Path) -> None:
    """Raises RunDirectoryError where there is no archive."""
    if not is_archive(archive):
        raise RunDirectoryError(
            f"{archive} is no archive of a study",
            wanted=f"a directory with {RUNS}",
            fix="rekindle export STUDY --out DIR makes one",
        )


def refuse_taken(out: Path) -> None:
    """Raises RunDirectoryError where `out` is there: an archive is taken up into a new place."""
    if out.exists():
        raise RunDirectoryError(
            f"{out} exists", fix="--resume goes on with it; --from begins a new directory"
        )


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """A study directory for reading: `place`, or what its archive holds, while the block lasts.

    Raises:
        DataError: the archive is damaged.
    """
    if not is_archive(place):
        yield place
        return
    with TemporaryDirectory(prefix="rekindle-") as aside:
        target = Path(aside) / place.resolve().name
        _unpack(place, target)
        yield target


def _unpack(archive: Path, out: Path) -> None:
    for name in (*OWN, DECLARED):
        if (archive / name).exists():
            write_atomic(out / name, (archive / name).read_bytes())
    for line in _lines(archive / RUNS):
        for name, text in line["files"].items():
            write_atomic(_inside(out, "runs", line["place"], name), text)


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise _damaged(str(path), str(error)) from error
    return [_line(text, f"{path}, line {number}") for number, text in enumerate(lines, start=1)]


def _line(text: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise _damaged(where, str(error)) from error
    if not isinstance(line, dict) or not isinstance(line.get("place"), str):
        raise _damaged(where, text, "an object with the place of a run")
    files = line.get("files")
    if not isinstance(files, dict) or not all(isinstance(held, str) for held in files.values()):
        raise _damaged(where, text, "the text of each of its files")
    return line


def _damaged(where: str, got: str, wanted: str | None = None) -> DataError:
    return DataError(
        f"{where}: the archive is damaged",
        got=got,
        wanted=wanted,
        fix="restore it, or run its study again",
    )


def _inside(target: Path, *parts: str) -> Path:
    """A path below `target`; an archive is a file of others and may name any."""
    path = target.joinpath(*parts)
    if not path.resolve().is_relative_to(target.resolve()):
        raise DataError(f"the archive names {'/'.join(parts)}", why="it lies outside the study")
    return path
