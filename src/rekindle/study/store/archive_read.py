"""A study as small files, read: unpacked for its page, or to be resumed.

    study.json  study.yaml  manifest.json  sessions.json     as the study wrote them
    runs.jsonl.xz                                            one line a finished run

What a line holds, and how it is written, is in `analyse/archive_write.py`. This half imports
nothing heavy, for the report reads archives.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import replace_dir, write_atomic, written_aside
from rekindle.outputs import ARCHIVED
from rekindle.study.schema import ArchivedRun
from rekindle.study.store.layout import DECLARED, MANIFEST, RESULTS, SESSIONS, faults

RUNS = ARCHIVED
OWN = (RESULTS, MANIFEST, SESSIONS)  # JSON of the study itself


def is_archive(place: Path) -> bool:
    """Whether a directory holds an archived study, and not the study itself."""
    return (place / RUNS).is_file() and not (place / "runs").exists()


def unpack_into(archive: Path, out: Path, *, check: Callable[[Path], None] | None = None) -> None:
    """Make `out` a study directory with the finished runs of an archive, to be resumed.

    `check` raises what speaks against it, given a directory with the archive's content; `out` is
    made only after that.

    Raises:
        RunDirectoryError: `archive` is none, or `out` exists.
        DataError: the archive is damaged.
    """
    refuse_taking(archive, out)
    with written_aside(out, "unpacking to") as aside:
        _unpack(archive, aside)
        if check is not None:
            check(aside)
        replace_dir(aside, out)


def refuse_taking(archive: Path, out: Path) -> None:
    """Raises RunDirectoryError where there is no archive, or `out` is no new directory."""
    if not is_archive(archive):
        raise RunDirectoryError(
            f"{archive} is no archive of a study",
            wanted=f"a directory with {RUNS}",
            fix="rekindle export STUDY --out DIR makes one",
        )
    if out.exists():
        raise RunDirectoryError(
            f"{out} exists", fix="--resume continues it; --from starts a new directory"
        )


@contextmanager
def unpacked(place: Path) -> Iterator[Path]:
    """A study directory for reading: `place`, or what its archive holds, while the block lasts.

    DataError where the archive is damaged.
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
    for run in list(_archived_runs(archive / RUNS)):  # all are checked before one is written
        for name, text in run.files.items():
            write_atomic(_inside(out, "runs", run.place, name), text)


def _archived_runs(path: Path) -> Iterator[ArchivedRun]:
    try:
        lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise _damaged(str(path), str(error)) from error
    for number, text in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            yield ArchivedRun.read(json.loads(text))
        except ValidationError as error:
            wanted = "an object with the place of a run and the text of each of its files"
            raise _damaged(where, faults(error), wanted) from error
        except ValueError as error:
            raise _damaged(where, str(error)) from error


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
