"""Files, safely: the only module that writes them.

A reader never sees half a file: everything that is not a log is written beside its place, synced
and renamed. Logs (`AppendLog`) are append-only JSON lines that can be cut back to a known length.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from rekindle.errors import DataError, RekindleError, RunDirectoryError

_LEFTOVER = re.compile(r"\..+\.(new|old)\.\d+\.tmp")  # see _aside


@contextmanager
def explained_io(path: Path, doing: str) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RekindleError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunDirectoryError(
                f"no space left while {doing} {path}",
                got=f"{free_bytes(path):,} bytes free",
                why="files written before are intact; the unfinished one was discarded",
                fix="free some space, then repeat the command (with --resume for a run)",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunDirectoryError(
                f"no permission for {doing} {path}",
                got=str(error),
                fix="choose a directory that you can write to, or change its permissions",
            ) from error
        if error.errno == errno.EISDIR and path.is_dir():
            raise RunDirectoryError(
                f"{path} is a directory", wanted="a file", fix="name a file in it, or another one"
            ) from error
        raise RunDirectoryError(f"failed {doing} {path}", got=str(error)) from error


def fsync_dir(directory: Path) -> None:
    """Make a rename or creation in `directory` durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a directory; they order renames on their own.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def seal_tree(directory: Path) -> dict[str, str]:
    """Force all that is in `directory` to disk; path below it -> SHA-256 of each file."""
    hashes, umask = {}, os.umask(0o077)
    os.umask(umask)  # to ask for it is to set it
    for path in sorted(directory.rglob("*")):
        if path.is_dir():
            fsync_dir(path)
            continue
        # safetensors makes its files readable to their owner only
        os.chmod(path, 0o666 & ~umask)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        hashes[path.relative_to(directory).as_posix()] = sha256_file(path)
    fsync_dir(directory)
    return hashes


def replace_dir(source: Path, target: Path) -> None:
    """Put a directory in its place, durably; what was there is removed after that.

    Raises:
        OSError: the system refused; what was there is there again.
    """
    old = _aside(target, "old")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(source, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    fsync_dir(target.parent)
    remove_tree(old)


@contextmanager
def written_aside(target: Path, doing: str) -> Iterator[Path]:
    """A new hidden directory beside `target` to write into; gone when the block ends.

    The block ends with `replace_dir`, or `target` stays as it was.

    Raises:
        RunDirectoryError: the operating system refused something, in words that help.
    """
    aside = _aside(target, "new")
    try:
        with explained_io(target, doing):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.mkdir()
            yield aside
    finally:
        # An error on the way must not be hidden by one of tidying up; what is left is hidden, and
        # cleared by the next owner.
        shutil.rmtree(aside, ignore_errors=True)


def clear_leftovers(directory: Path) -> None:
    """Remove what interrupted writes of dead processes left in `directory`; others' files stay.

    Only the directory's owner may call this: a living process's files look the same.
    """
    for path in directory.glob(".*.tmp") if directory.is_dir() else ():
        if is_leftover(path):
            remove_tree(path)


def is_leftover(path: Path) -> bool:
    """Whether `path` has a name that only an interrupted write of this module leaves."""
    return _LEFTOVER.fullmatch(path.name) is not None


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old content or the new."""
    path = Path(path)
    aside = _aside(path, "new")
    with explained_io(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            fsync_dir(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_json(path: Path | str, value: object) -> None:
    """`value` as indented JSON; nan and infinity become null, for JSON has neither."""
    write_atomic(path, json_text(value, indent=2))


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, object]]) -> None:
    """One JSON object a line, written as one atomic file."""
    write_atomic(path, b"".join(json_text(row) for row in rows))


def open_append(path: Path) -> IO[bytes]:
    """A file to print into, its directory made."""
    with explained_io(path, "opening"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab", buffering=0)


def open_lock(path: Path) -> IO[str]:
    """Open a lock file without disturbing what its holder wrote there."""
    with explained_io(path, "opening"):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        return os.fdopen(handle, "r+")


def read_json(path: Path | str) -> Any:
    """The JSON value in a file; a broken file is a `DataError` that names the place."""
    with readable(path := Path(path)):
        text = decoded(path.read_bytes(), str(path))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # integers of thousands of digits, deep nesting
        place, got = str(path), str(error).split(";")[0]
        if isinstance(error, json.JSONDecodeError):
            place, got = f"{path}:{error.lineno}", error.msg
        raise DataError(f"{place} is not valid JSON", got=got, wanted="one JSON value") from error


def read_jsonl(path: Path | str) -> list[tuple[int, dict[str, Any]]]:
    """All rows of `each_jsonl`."""
    return list(each_jsonl(path))


def each_jsonl(
    path: Path | str, loads: Callable[[str], Any] = json.loads
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a JSONL file as (line number from 1, object), one line in memory at a time.

    Raises:
        DataError: missing, empty, not UTF-8, or a line is not a JSON object; the line is named.
    """
    path, empty = Path(path), True
    with readable(path), open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):  # only \n ends a line, not U+2028 in a string
            if not (line := decoded(raw, f"{path}:{number}", first=number == 1)).strip():
                continue
            try:
                row = loads(line)
            except (ValueError, RecursionError) as error:  # also integers of thousands of digits
                why = str(error).split(";")[0].replace(": line 1 column", " at column")
                what = f"{path}:{number} is not valid JSON"
                raise DataError(
                    what, got=line, wanted="one JSON object a line", why=why, fix="fix or remove it"
                ) from error
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number} is not a JSON object", got=line, wanted="{...}")
            yield number, row
            empty = False
    if empty:
        raise DataError(f"{path} is empty", wanted="one JSON object a line")


def sha256_file(path: Path | str) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LogMark(NamedTuple):
    """How far a log had grown, and what was in it."""

    length: int  # bytes
    sha256: str


EMPTY_LOG = LogMark(0, hashlib.sha256().hexdigest())


class AppendLog:
    """A JSONL file that grows line by line and can be cut back to a mark."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._hash, self._hashed = hashlib.sha256(), 0  # of the first so many bytes

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows in one write: a kill leaves at most one torn line, a full disk none."""
        raw = b"".join(json_text(row) for row in rows)
        with explained_io(self.path, "appending to"):
            before = self._size()
            try:
                with open(self.path, "ab") as file:
                    file.write(raw)
            except OSError:
                if self._size() > before:
                    os.truncate(self.path, before)
                raise

    def sync(self) -> LogMark:
        """Force the content to disk; the mark to cut it back to, to be kept with a checkpoint."""
        if not self.path.exists():
            return EMPTY_LOG
        with explained_io(self.path, "syncing"):
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
                file.seek(self._hashed)
                self._hashed += _feed(self._hash, file, os.fstat(file.fileno()).st_size)
            fsync_dir(self.path.parent)
        return LogMark(self._hashed, self._hash.hexdigest())

    def cut(self, mark: LogMark) -> None:
        """Drop everything after `mark`; raises what `check` does."""
        begun = self.check(mark)
        if self._size() > mark.length:
            with explained_io(self.path, "cutting"):
                os.truncate(self.path, mark.length)
        self._hash, self._hashed = begun, mark.length

    def check(self, mark: LogMark) -> hashlib._Hash:
        """The hash, to be fed on, of what is before `mark`.

        Raises:
            RunDirectoryError: what is before it is not what was there when it was taken; the file
                is left as it is.
        """
        size = self._size()
        if size < mark.length:
            wanted = f"at least {mark.length:,} bytes"
            raise self._changed("shorter than", f"{size:,} bytes", wanted)
        begun = hashlib.sha256()
        if mark.length:
            with explained_io(self.path, "reading"), open(self.path, "rb") as file:
                _feed(begun, file, mark.length)
        if begun.hexdigest() != mark.sha256:
            wanted = f"SHA-256 {mark.sha256[:12]}…"
            raise self._changed("different from what", "other content", wanted)
        return begun

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _changed(self, how: str, got: str, wanted: str) -> RunDirectoryError:
        return RunDirectoryError(
            f"{self.path} is {how} its checkpoint says",
            got=got,
            wanted=wanted,
            why="rows of finished steps are missing or were changed",
            fix="restore the file, or start again with --overwrite",
        )


def cut_torn_line(path: Path) -> None:
    """Drop what follows the last end of line of a JSONL file: what a kill left of a write."""
    if not path.exists():
        return
    with explained_io(path, "mending"):
        whole = path.read_bytes().rfind(b"\n") + 1
        if whole < path.stat().st_size:
            os.truncate(path, whole)


def remove_tree(path: Path) -> None:
    """Delete a file or directory that is ours; a missing one is fine."""
    with explained_io(path, "removing"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A file that cannot be opened is a `DataError` that says why."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", fix="check the path") from error
    except (IsADirectoryError, PermissionError) as error:
        fault = "is a directory" if path.is_dir() else "cannot be read"
        raise DataError(f"{path} {fault}", got=str(error), wanted="a file") from error


def decoded(raw: bytes, where: str, *, first: bool = True) -> str:
    """UTF-8 bytes as text, without a byte order mark where they are the first of a file."""
    try:
        return raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8",
            got=f"byte {error.object[error.start]:#04x} at {error.start}",
            fix="convert it, e.g. with iconv -f latin1 (or utf-16) -t utf-8",
        ) from error


def json_text(value: object, *, indent: int | None = None) -> bytes:
    """JSON in UTF-8 and an end of line; nan and infinity become null, for JSON has neither."""
    plain = each_leaf(value, finite)
    text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, from a model or a data file: legal in JSON only as an escape.
        return f"{json.dumps(plain, indent=indent)}\n".encode()


def _aside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}.{os.getpid()}.tmp")


def _feed(digest: hashlib._Hash, file: IO[bytes], length: int) -> int:
    """Hash up to `length` bytes from where the file stands; how many there were."""
    fed = 0
    while block := file.read(min(1 << 20, length - fed)):
        digest.update(block)
        fed += len(block)
    return fed


def each_leaf(tree: object, change: Callable[[object], object]) -> object:
    """Plain data with `change` made to all in it that is no mapping and no list."""
    if isinstance(tree, Mapping):
        return {key: each_leaf(item, change) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [each_leaf(item, change) for item in tree]
    return change(tree)


def finite(value: object) -> object:
    """None for nan and infinity: they are undefined, and JSON has neither."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds `path` (or would hold it)."""
    existing = next(p for p in (path, *path.resolve().parents) if p.exists())
    return shutil.disk_usage(existing).free
