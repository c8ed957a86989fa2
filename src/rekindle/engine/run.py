"""The run directory: one run, one owner, and enough in it to go on after any crash.

    config.yaml  manifest.json  metrics.jsonl  samples.jsonl  eval/  eval.json  checkpoints/  final/

`steps` owns cadence, checkpoints, signals and progress. A checkpoint records the length of the
logs; on resume they are cut back to it, so that no row is missing and none is there twice.
"""

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Literal

import yaml

from rekindle.engine.checkpoint import find_checkpoint, save_checkpoint
from rekindle.engine.device import Alone, Group
from rekindle.engine.exporters import export, open_exporters
from rekindle.engine.manifest import STATE_FORMAT, make_manifest, now
from rekindle.engine.progress import ProgressLine
from rekindle.engine.state import TrainState
from rekindle.errors import EXIT_RESUMABLE, RunDirectoryError
from rekindle.files import (
    AppendLog,
    explained_io,
    fsync_dir,
    fsync_file,
    open_lock,
    read_json,
    remove_tree,
    rename,
    write_atomic,
    write_json,
)

Mode = Literal["new", "resume", "overwrite"]


class Run:
    """An open run directory; use it as a context manager, which holds its lock.

    Only the main process writes; all processes take the same decisions.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config: Mapping[str, Any],
        lock: IO[str] | None,
        group: Group,
        quiet: bool | None,
    ) -> None:
        self.directory, self.config, self.group = directory, config, group
        self._lock, self._quiet = lock, quiet
        self._metrics = AppendLog(directory / "metrics.jsonl")
        self._samples = AppendLog(directory / "samples.jsonl")
        self._row: dict[str, float] = {}
        self._progress: ProgressLine | None = None
        self._stop_signal: int | None = None
        self._saving = 0.0
        names = config.get("log", {}).get("exporters", ()) if group.is_main else ()
        self._exporters = open_exporters(names, directory, config)

    # --- opening

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        config: Mapping[str, Any],
        fingerprints: Mapping[str, str],
        mode: Mode = "new",
        command: str = "",
        quiet: bool | None = None,
        group: Group | None = None,
    ) -> "Run":
        """Create, overwrite or take up a run directory.

        Raises:
            RunDirectoryError: it exists (new), is no run (resume, overwrite), belongs to another
                process, cannot be written, or was made with another config, data or model (resume;
                the differences are listed).
        """
        group = group or Alone()
        lock: IO[str] | None = None
        failure: RunDirectoryError | None = None
        if group.is_main:
            try:
                lock = _prepare(directory, config, fingerprints, mode, command, group.size)
            except RunDirectoryError as error:
                failure = error
        failure = group.broadcast_object(failure)
        if failure is not None:
            raise failure
        return cls(directory, config=config, lock=lock, group=group, quiet=quiet)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    # --- training

    def restore(self, state: TrainState) -> TrainState:
        """Load the newest complete checkpoint into `state`; as it is when there is none."""
        place: str | None = None
        if self.group.is_main:
            found = find_checkpoint(self.directory / "checkpoints")
            for line in found.torn:
                self._say(f"skipped: {line}")
            logs = found.marker.get("logs", {"metrics": 0, "samples": 0})
            self._metrics.cut(logs["metrics"])
            self._samples.cut(logs["samples"])
            place = str(found.directory) if found.directory is not None else None
        place = self.group.broadcast_object(place)
        if place is not None:
            state.load(Path(place))
            total = self.config.get("optim", {}).get("steps")
            done = ": the run is finished" if state.step == total else ""
            self._say(f"resumed after step {state.step}{done}")
        if self.group.is_main:
            self._note_session(state.step)
        return state

    def steps(self, state: TrainState, *, total: int) -> Iterator[int]:
        """Step numbers from `state.step + 1` to `total`.

        After each body: the step counts, a checkpoint on cadence and at the end. SIGTERM and SIGINT
        let the step finish, write a checkpoint, and leave with `errors.EXIT_RESUMABLE`.
        """
        every = int(self.config.get("checkpoint", {}).get("every", 50))
        quiet = self._quiet if self.group.is_main else True
        with self._signals(), ProgressLine(total=total, done=state.step, quiet=quiet) as progress:
            self._progress = progress
            while state.step < total:
                step = state.step + 1
                self._row = {}
                yield step
                state.step = step
                progress.advance(step, self._row)
                stopping = self._agreed_stop()
                if stopping or step % every == 0 or step == total:
                    self._checkpoint(state)
                if stopping and step < total:
                    self._say(f"stopped after step {step}; go on with --resume")
                    raise SystemExit(EXIT_RESUMABLE)
        self._progress = None

    def checkpoint_seconds(self) -> float:
        """Time spent on checkpoints since the last call: those of earlier steps."""
        spent, self._saving = self._saving, 0.0
        return spent

    def _checkpoint(self, state: TrainState) -> None:
        began = time.perf_counter()
        failure: RunDirectoryError | None = None
        if self.group.is_main:
            try:
                logs = {"metrics": self._metrics.sync(), "samples": self._samples.sync()}
                save_checkpoint(
                    self.directory / "checkpoints",
                    state.step,
                    state.save,
                    extra={"logs": logs, "state_format": STATE_FORMAT},
                    needed=state.nbytes(),
                    keep=int(self.config.get("checkpoint", {}).get("keep", 2)),
                )
            except RunDirectoryError as error:
                failure = error
        failure = self.group.broadcast_object(failure)
        if failure is not None:
            raise failure
        self._saving += time.perf_counter() - began

    # --- the record

    def log(
        self,
        step: int,
        metrics: Mapping[str, float],
        *,
        samples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """The metrics row of a step, and rows of samples.jsonl. nan is written as null."""
        self._row = dict(metrics)
        if not self.group.is_main:
            return
        if samples:
            self._samples.append(samples)
        self._metrics.append([{"step": step, **metrics}])
        finite = {k: v for k, v in metrics.items() if isinstance(v, int | float) and v == v}
        export(self._exporters, step, finite)

    def log_eval(self, step: int, result: Mapping[str, Any]) -> None:
        """Write an evaluation as eval/step-XXXXXX.json and as eval.json."""
        value = result["metrics"].get("pass@1", {}).get("value")
        if self._progress is not None and value is not None:
            self._progress.evaluated(f"pass@1 {value:.3f}")
        if self.group.is_main:
            write_json(self.directory / "eval" / f"step-{step:06d}.json", {"step": step, **result})
            write_json(self.directory / "eval.json", {"step": step, **result})

    def finish(self, save_model: Callable[[Path], None]) -> None:
        """Write `final/` as a whole and mark the run finished; again after a kill is fine."""
        if self.group.is_main:
            aside = self.directory / f".final.{os.getpid()}.tmp"
            for left in self.directory.glob(".final.*.tmp"):
                remove_tree(left)
            with explained_io(self.directory / "final", "writing"):
                aside.mkdir()
                save_model(aside)
                for file in aside.iterdir():
                    fsync_file(file)
                fsync_dir(aside)
                remove_tree(self.directory / "final")
                rename(aside, self.directory / "final")
            manifest = read_json(self.directory / "manifest.json")
            write_json(self.directory / "manifest.json", {**manifest, "finished": now()})
        self.group.barrier()

    def _note_session(self, step: int) -> None:
        manifest = read_json(self.directory / "manifest.json")
        manifest["sessions"] = [*manifest["sessions"], {"started": now(), "from_step": step}]
        write_json(self.directory / "manifest.json", manifest)

    def _say(self, text: str) -> None:
        if self.group.is_main and self._quiet is not True:
            print(text, file=sys.stderr)

    # --- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        self._stop_signal = number

    def _agreed_stop(self) -> bool:
        return any(self.group.gather_objects([self._stop_signal is not None]))


def _prepare(
    directory: Path,
    config: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    mode: Mode,
    command: str,
    processes: int,
) -> IO[str]:
    begun = (directory / "manifest.json").exists()  # written last
    filled = directory.exists() and not _only_hidden(directory)
    if mode == "new" and filled:
        raise RunDirectoryError(
            f"{directory} exists",
            why="a run is never mixed with another",
            fix="--resume goes on with it, --overwrite replaces it, or give another --out",
        )
    if mode != "new" and filled and not begun and not (directory / "config.yaml").exists():
        raise RunDirectoryError(
            f"{directory} is not a run directory",
            wanted="a directory with config.yaml and manifest.json",
            why="nothing that is not ours is resumed or deleted",
            fix="check --out",
        )
    with explained_io(directory, "creating"):
        directory.mkdir(parents=True, exist_ok=True)
    lock = _take_lock(directory)
    try:
        if mode == "overwrite":
            for path in directory.iterdir():
                if path.name != ".lock":
                    remove_tree(path)
        if mode == "resume" and begun:
            _refuse_changes(directory, config, fingerprints)
        else:
            manifest = make_manifest(
                command=command,
                seed=config.get("seed"),
                fingerprints=fingerprints,
                processes=processes,
            )
            write_atomic(directory / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            write_json(directory / "manifest.json", manifest)
    except RunDirectoryError:
        lock.close()
        raise
    return lock


def _only_hidden(directory: Path) -> bool:
    # The lock, and what a kill leaves of files that were not yet in place.
    return directory.is_dir() and all(path.name.startswith(".") for path in directory.iterdir())


def _take_lock(directory: Path) -> IO[str]:
    lock = open_lock(directory / ".lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = lock.read().strip()
        lock.close()
        raise RunDirectoryError(
            f"{directory} is in use by another process",
            got=f"process {holder}" if holder else None,
            why="two processes in one run directory would spoil it",
            fix="wait for it, stop it, or give another --out",
        ) from error
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _refuse_changes(
    directory: Path, config: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> None:
    path = directory / "config.yaml"
    manifest = read_json(directory / "manifest.json")
    before = {**_flat(yaml.safe_load(path.read_text())), **_named(manifest["fingerprints"])}
    after = {**_flat(config), **_named(fingerprints)}
    before["state format"], after["state format"] = manifest.get("state_format"), STATE_FORMAT
    changed = [
        f"{key}: {before.get(key, '(absent)')!r} -> {after.get(key, '(absent)')!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, "(absent)") != after.get(key, "(absent)")
    ]
    if changed:
        raise RunDirectoryError(
            f"{directory} was made with other settings, data or model:\n    "
            + "\n    ".join(changed),
            why="a resumed run must be the same run",
            fix="give the settings it was started with, or another --out",
        )


def _named(fingerprints: Mapping[str, str]) -> dict[str, str]:
    return {f"{name} (hash)": value for name, value in fingerprints.items()}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: list(tree) if isinstance(tree, tuple) else tree}
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return out
