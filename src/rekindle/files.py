"""Files, safely: the only module that writes them.

A reader never sees half a file: everything that is not a log is written beside its place, synced
and renamed. Logs (`AppendLog`) are append-only JSON lines that can be cut back to a known length.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rekindle.errors import DataError, RunDirectoryError


@contextmanager
def explained_io(path: Path, doing: str) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RunDirectoryError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunDirectoryError(
                f"no space left while {doing} {path}",
                got=f"{free_bytes(path):,} bytes free",
                why="what was written before is intact; the unfinished file was not put in place",
                fix="free some space, then repeat the command (with --resume for a run)",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunDirectoryError(
                f"no permission for {doing} {path}",
                got=str(error),
                fix="choose a place that you may write to, or change its permissions",
            ) from error
        raise RunDirectoryError(f"failed {doing} {path}", got=str(error)) from error


def fsync_dir(directory: Path) -> None:
    """Make a rename or creation in `directory` durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_file(path: Path) -> None:
    """Force a file's content to disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def rename(source: Path, target: Path) -> None:
    """Put a file or directory in its place, durably."""
    os.replace(source, target)
    fsync_dir(target.parent)


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old content or the new."""
    path = Path(path)
    raw = data.encode() if isinstance(data, str) else data
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained_io(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            fsync_dir(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_json(path: Path | str, value: object) -> None:
    """`value` as indented JSON; nan and infinity become null, for JSON has neither."""
    write_atomic(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, written as one atomic file."""
    write_atomic(path, "".join(_json_line(row) for row in rows))


def open_lock(path: Path) -> IO[str]:
    """Open a lock file without disturbing what its holder wrote there."""
    with explained_io(path, "opening"):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        return os.fdopen(handle, "r+")


def read_json(path: Path | str) -> Any:
    """The JSON value in a file; a broken file is a `DataError` that names the place."""
    path = Path(path)
    text = _read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno} is not valid JSON", got=error.msg, wanted="one JSON value"
        ) from error


def read_jsonl(path: Path | str) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a JSONL file as (line number from 1, object).

    A byte order mark is skipped, as are blank lines.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or a line is not a JSON object; file and
            line are named.
    """
    path = Path(path)
    rows: list[tuple[int, dict[str, Any]]] = []
    # Only \n ends a line: str.splitlines would also cut at U+2028 and the like inside strings.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{number} is not valid JSON",
                got=line,
                wanted='one JSON object a line, e.g. {"prompt": "...", "answer": "..."}',
                why=f"{error.msg} at column {error.colno}",
                fix="mend or remove that line",
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number} is not a JSON object", got=line, wanted="{...}")
        rows.append((number, row))
    if not rows:
        raise DataError(f"{path} is empty", wanted="one JSON object a line")
    return rows


def sha256_file(path: Path | str) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class AppendLog:
    """A JSONL file that grows line by line and can be cut back to a known length."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows in one write, so that a kill leaves at most one torn line at the end."""
        raw = "".join(_json_line(row) for row in rows).encode()
        with explained_io(self.path, "appending to"), open(self.path, "ab") as file:
            file.write(raw)

    def sync(self) -> int:
        """Force the content to disk; the length in bytes, to be kept with a checkpoint."""
        if not self.path.exists():
            return 0
        with explained_io(self.path, "syncing"), open(self.path, "ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def cut(self, length: int) -> None:
        """Drop everything after the first `length` bytes."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < length:
            raise RunDirectoryError(
                f"{self.path} is shorter than its checkpoint says",
                got=f"{size} bytes",
                wanted=f"at least {length} bytes",
                why="rows that belong to finished steps are gone: the file was cut or replaced",
                fix="restore the file, or start again with --overwrite",
            )
        if size > length:
            with explained_io(self.path, "cutting"):
                os.truncate(self.path, length)


def remove_tree(path: Path) -> None:
    """Delete a file or directory that is ours; a missing one is fine."""
    with explained_io(path, "removing"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", fix="check the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a directory", wanted="a file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8",
            got=f"byte {error.object[error.start]:#04x} at {error.start}",
            fix="convert it, e.g. with iconv -t utf-8",
        ) from error
    except PermissionError as error:
        raise DataError(f"{path} cannot be read", got=str(error)) from error


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(_finite(row), ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds `path` (or would hold it)."""
    place = next(p for p in (path, *path.resolve().parents) if p.exists())
    return shutil.disk_usage(place).free
