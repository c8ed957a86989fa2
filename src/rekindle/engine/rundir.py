"""Taking a run directory: whether it is ours, who holds it, and whether it is the same run.

Nothing that is not ours is changed or deleted; what is ours has a manifest that says so. The
manifest is written first and the config last, so that a directory with both was opened completely.
"""

import fcntl
import hashlib
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, get_args

import yaml

from rekindle.engine.manifest import STATE_FORMAT, Manifest, make_manifest
from rekindle.errors import ConfigError, DataError, RekindleError, RunDirectoryError, did_you_mean
from rekindle.files import (
    clear_leftovers,
    each_leaf,
    explained_io,
    is_leftover,
    open_lock,
    read_json,
    remove_tree,
    write_atomic,
    write_json,
)
from rekindle.outputs import PAGE, REPORT_MARK, has_mark, refuse_read_below

Mode = Literal["new", "resume", "overwrite"]

MANIFEST, CONFIG, LOCK = "manifest.json", "config.yaml", ".lock"
# What --overwrite removes, in this order: as long as something is left, so is what says it is ours.
OWN = (
    "checkpoints",
    "stages",
    "final",
    "eval",
    "eval.json",
    "metrics.jsonl",
    "samples.jsonl",
    "tensorboard",
    "wandb",
    PAGE,
    CONFIG,
    MANIFEST,
)


def claim(
    directory: Path,
    *,
    config: Mapping[str, object],
    fingerprints: Mapping[str, str],
    mode: Mode,
    command: str,
    processes: int,
) -> "RunLock":
    """Make `directory` this process's run directory and return the lock that keeps it.

    Raises:
        RunDirectoryError: see `Run.open`; the directory is as it was.
    """
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    with taken(directory, mode, OWN, lambda: refuse_mode(directory, mode, _is_ours)) as lock:
        for part in ("eval", "checkpoints"):
            clear_leftovers(directory / part)
        if mode == "resume" and _is_begun(directory):
            _refuse_changes(directory, text, fingerprints)
        else:
            manifest = make_manifest(
                command=command,
                seed=seed if isinstance(seed := config.get("seed"), int) else None,
                fingerprints=fingerprints,
                processes=processes,
            )
            manifest["config"] = [_digest(text.encode())]
            manifest["checkpoints"], manifest["stages"] = {}, {}
            write_json(directory / MANIFEST, manifest)
            write_atomic(directory / CONFIG, text)
    return lock


@contextmanager
def taken(
    directory: Path, mode: Mode, own: Sequence[str], refuse: Callable[[], None]
) -> Iterator["RunLock"]:
    """Make and lock `directory`; an error in the block lets it go, else the lock stays.

    What interrupted writes left goes first, and with `overwrite` all that is `own`; before that
    `refuse` has its say.
    """
    refuse()
    with explained_io(directory, "creating"):
        directory.mkdir(parents=True, exist_ok=True)
    lock = RunLock(directory / LOCK)
    try:
        refuse()  # again: until the lock was ours the directory could change
        clear_leftovers(directory)
        for name in own if mode == "overwrite" else ():
            if name != PAGE or has_mark(directory / name, REPORT_MARK):
                remove_tree(directory / name)
        yield lock
    except RekindleError:
        lock.release()
        raise


def refuse_lost_input(
    directory: Path, mode: Mode, config: Mapping[str, object], *more: object
) -> None:
    """Refuse to overwrite a run by one that reads what it would remove.

    Args:
        config: of the new run; its values may be paths.
        more: other things that are read, where they are paths.

    Raises:
        ConfigError: what is read is named.
    """
    if mode != "overwrite":
        return
    values = list[object]([*more])
    each_leaf(config, values.append)
    refuse_read_below(directory, OWN, [v for v in values if isinstance(v, str | Path)])


def in_use(directory: Path) -> bool:
    """Whether a process holds this run directory; False where there is none."""
    return _holder(directory / LOCK) is not None


class RunLock:
    """Held until released or until this process is gone, however it went.

    Raises:
        RunDirectoryError: another process holds it, or the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[str] | None = open_lock(path)
        try:
            with explained_io(path, "locking"):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except RunDirectoryError as error:
            holder = self._file.read().strip()
            self.release()
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            raise _in_use(path, holder) from None
        _held.add(self)
        with explained_io(path, "writing"):
            self._file.seek(0)
            self._file.truncate()
            self._file.write(str(os.getpid()))
            self._file.flush()

    def release(self) -> None:
        """Let the directory go; again is fine."""
        if self._file is not None:
            self._file.close()
            self._file = None


def refuse_in_use(path: Path) -> None:
    """Refuse a directory that another process holds by its lock file; nothing is written.

    Raises:
        RunDirectoryError: it is held, or the file cannot be opened.
    """
    holder = _holder(path)
    if holder is not None:
        raise _in_use(path, holder)


def _holder(path: Path) -> str | None:
    """What the process wrote that holds a lock file; None where nobody holds it."""
    if not path.exists():
        return None
    with explained_io(path, "opening"), open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip()
    return None


def _in_use(path: Path, holder: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path.parent} is in use by another process",
        got=f"process {holder}" if holder else None,
        why="two processes in one run directory would corrupt it",
        fix="wait for it, stop it, or give another --out",
    )


_held: "weakref.WeakSet[RunLock]" = weakref.WeakSet()


def _forget_locks() -> None:
    # A lock belongs to an open file, which a fork shares: workers that outlive a killed run would
    # keep its directory.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_locks)


def check_mode(mode: object) -> None:
    """Refuse what is no mode, of a caller in Python.

    Raises:
        ConfigError: what there is is listed.
    """
    modes = get_args(Mode)
    if mode not in modes:
        raise ConfigError(f"there is no mode '{mode}'", fix=did_you_mean(str(mode), modes))


def refuse_mode(
    directory: Path, mode: Mode, is_ours: Callable[[Path], bool], *, kind: str = "run"
) -> None:
    """Refuse a directory that is filled (new), or that is not of the kind (resume, overwrite)."""
    with explained_io(directory, "reading"):
        if not directory.exists():
            return
        if not directory.is_dir():
            raise RunDirectoryError(
                f"{directory} is a file", wanted="a directory", fix="check --out"
            )
        filled = any(p.name != LOCK and not is_leftover(p) for p in directory.iterdir())
    if filled and mode == "new":
        raise RunDirectoryError(
            f"{directory} exists",
            why=f"a {kind} is never mixed with another",
            fix="--resume goes on with it, --overwrite replaces it, or give another --out",
        )
    if filled and not is_ours(directory):
        raise RunDirectoryError(
            f"{directory} is not a {kind} directory",
            wanted=f"a directory with a {MANIFEST} of a {kind} of rekindle",
            why="rekindle resumes and deletes only its own directories",
            fix=f"check --out; if it is a {kind} whose manifest is broken, remove it yourself",
        )


def _is_ours(directory: Path) -> bool:
    try:
        manifest = read_json(directory / MANIFEST)
    except DataError:
        return False
    return isinstance(manifest, dict) and {"rekindle", "fingerprints"} <= manifest.keys()


def _is_begun(directory: Path) -> bool:
    """Whether more is there than the manifest, which is written first."""
    return any((directory / name).exists() for name in OWN if name != MANIFEST)


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def note_config(directory: Path, text: str) -> None:
    """Before the config of a run is written anew: the manifest then knows either.

    A kill in between leaves the one before.
    """
    path = directory / MANIFEST
    if not path.exists():
        return
    manifest: Manifest = read_json(path)
    if "config" in manifest:
        manifest["config"] = [*manifest["config"], _digest(text.encode())]
        write_json(path, manifest)


def config_fault(directory: Path, manifest: Manifest) -> str | None:
    """What is wrong with the file config.yaml of a run; None: nothing, or it cannot be known."""
    path = directory / CONFIG
    if not path.is_file():
        return "is missing"
    with explained_io(path, "reading"):
        known = _digest(path.read_bytes()) in manifest.get("config", [])
    return None if known or "config" not in manifest else "was changed since the run began"


def _refuse_changes(directory: Path, config: str, fingerprints: Mapping[str, str]) -> None:
    path = directory / CONFIG
    manifest: Manifest = read_json(directory / MANIFEST)
    fault = config_fault(directory, manifest)
    try:
        saved = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _not_resumed(path, "cannot be read", str(error)) from error
    if fault is not None:
        raise _not_resumed(path, fault)
    before = {**flat(saved), **_named(manifest["fingerprints"])}
    after = {**flat(yaml.safe_load(config)), **_named(fingerprints)}
    before["state format"], after["state format"] = manifest.get("state_format"), STATE_FORMAT
    lines = differences(before, after)
    if lines:
        raise RunDirectoryError(
            f"{directory} was made with different settings, data or model:\n    "
            + "\n    ".join(lines),
            why="a resumed run must be the same run",
            fix="give what it was started with, another --out, or start again with --overwrite",
        )


def _not_resumed(path: Path, fault: str, got: str | None = None) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path} {fault}",
        got=got,
        why="a resumed run must be the same run, and this file says which it was",
        fix="restore it, or start again with --overwrite",
    )


def _named(fingerprints: Mapping[str, str]) -> dict[str, str]:
    return {f"{name} (hash)": value for name, value in fingerprints.items()}


def flat(tree: object, prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, keys joined by dots."""
    if not isinstance(tree, Mapping) or (not tree and prefix):
        return {prefix: tree}
    parts = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items())
    return {key: value for part in parts for key, value in part.items()}


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """`key: was -> is` of each value that differs between two flat mappings."""
    lines = []
    for key in dict.fromkeys([*after, *before]):
        was = repr(before[key]) if key in before else "(absent)"
        is_ = repr(after[key]) if key in after else "(absent)"
        if was != is_:
            lines.append(f"{key}: {was} -> {is_}")
    return lines
