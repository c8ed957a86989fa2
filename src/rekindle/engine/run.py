"""The run directory: one run, one owner, and enough in it to go on after any crash.

    config.yaml  manifest.json  metrics.jsonl  samples.jsonl  eval/  eval.json  checkpoints/  final/

`steps` owns cadence, checkpoints, signals and progress. A checkpoint records how far the logs had
grown; on resume they are cut back to it, so that no row is missing and none is there twice.

One process writes; with several, all see the same directory and take the same decisions.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rekindle.engine.checkpoint import (
    checkpoint_name,
    checkpoint_step,
    drop_old,
    find_checkpoint,
    noted_checkpoints,
    refuse_full_disk,
    save_checkpoint,
)
from rekindle.engine.config import CheckpointConfig, LogConfig
from rekindle.engine.device import Group, on_main
from rekindle.engine.exporters import Exporters
from rekindle.engine.integrity import check_final, record_files
from rekindle.engine.interrupts import Interrupts
from rekindle.engine.manifest import STATE_FORMAT, Manifest, now
from rekindle.engine.progress import Number, ProgressLine, say
from rekindle.engine.rundir import MANIFEST, Mode, RunLock, claim
from rekindle.engine.state import TrainState, rng_state, safetensors_as_oserror
from rekindle.errors import EXIT_RESUMABLE, ModelError
from rekindle.files import (
    EMPTY_LOG,
    AppendLog,
    LogMark,
    read_json,
    remove_tree,
    replace_dir,
    seal_tree,
    write_json,
    written_aside,
)


class Run:
    """An open run directory, made by `Run.open`; a context manager, which holds its lock.

    Attributes:
        directory: where it is.
        config: the resolved recipe.
        quiet: True: no progress; None: on a terminal.
        finished: it had been finished before it was opened: `steps` yields nothing, `finish` does
            nothing.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, object],
        group: Group,
        quiet: bool | None,
        lock: RunLock | None,
        exporters: Exporters | None,
        finished: bool,
    ) -> None:
        self.directory, self.config, self.group = directory, config, group
        self.finished = finished
        self.quiet, self._lock, self._exporters = quiet, lock, exporters
        self._metrics = AppendLog(directory / "metrics.jsonl")
        self._samples = AppendLog(directory / "samples.jsonl")
        self._interrupts = Interrupts()
        self._cadence = CheckpointConfig.model_validate(config.get("checkpoint", {}))
        self._progress: ProgressLine | None = None
        self._row: dict[str, Number] | None = None
        self._step = 0  # that is being taken
        self._saving = 0.0

    # --- opening

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        config: Mapping[str, object],
        fingerprints: Mapping[str, str],
        mode: Mode = "new",
        command: str = "",
        quiet: bool | None = None,
        group: Group | None = None,
    ) -> "Run":
        """Create, overwrite or take up a run directory.

        Args:
            config: plain data, written as config.yaml. `checkpoint.every`, `checkpoint.keep`,
                `log.exporters` and `seed` are read here.
            fingerprints: hashes of what the run is made from, by name ("data", "model").
            mode: `new` refuses a directory with something in it. `resume` takes up a run, also
                one that was killed before it had begun. `overwrite` removes a run's own files.
            command: recorded in the manifest.

        Raises:
            RunDirectoryError: it exists (new), is no run (resume, overwrite), belongs to another
                process, cannot be written, or was made with another config, data or model (resume;
                the differences are listed), or its config is gone or was changed (resume).
            ModelError: it is finished, and `final/` was changed since (resume).
            MissingExtraError: an exporter's package is not installed.
        """
        group, directory = group or Group(), Path(directory)
        own: list[tuple[RunLock, Exporters]] = []  # stays in the main process

        def prepare() -> bool:
            log = LogConfig.model_validate(config.get("log", {}))
            exporters = Exporters(log.exporters, directory, config)
            lock = claim(
                directory,
                config=config,
                fingerprints=fingerprints,
                mode=mode,
                command=command,
                processes=group.size,
            )
            own.append((lock, exporters))
            finished = read_json(directory / MANIFEST).get("finished") is not None
            if not finished or not (directory / "final").is_dir():
                return False
            try:
                check_final(directory / "final")
            except ModelError:
                lock.release()
                raise
            _drop_checkpoints(directory, config)
            return True

        finished = on_main(group, prepare)
        lock, exporters = own[0] if own else (None, None)
        run = cls(directory, config, group, quiet, lock, exporters, finished)
        if finished:
            run._say(f"{directory} is finished: there is nothing to do")
        return run

    def __enter__(self) -> "Run":
        self._interrupts.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # `steps` is a generator: after an error in its body it is still waiting.
        if self._progress is not None:
            self._progress.close()
        if self._exporters is not None:
            self._exporters.close()
        if self._lock is not None:
            self._lock.release()
        try:
            if kind is None:
                self._interrupts.pass_on()
        finally:
            self._interrupts.restore()

    def describe_data(self, notes: Sequence[str]) -> None:
        """How the data was read: said once, and kept in the manifest."""
        if notes and self.group.is_main:
            self._write({**self.manifest(), "data": list(notes)})
            for note in notes:
                self._say(f"data: {note}")

    def note_remarks(self, remarks: Sequence[str]) -> None:
        """What is odd about the run, kept in the manifest beside what is there; each once."""
        if remarks and self.group.is_main:
            manifest = self.manifest()
            there = manifest.get("remarks", [])
            self._write({**manifest, "remarks": list(dict.fromkeys([*there, *remarks]))})

    # --- training

    def restore(self, state: TrainState) -> TrainState:
        """Load the newest complete checkpoint into `state`; as it is when there is none.

        The logs are cut back to that checkpoint, unless the run is finished.

        Raises:
            RunDirectoryError: rows that the checkpoint counts on are gone or were changed.
            CheckpointError: the checkpoint does not fit the state.
        """
        newest = on_main(self.group, self._newest)
        if newest is not None:
            state.load(Path(newest), rank=self.group.rank)
        if self.finished:
            return state
        if newest is not None:
            self._say(f"resumed after step {state.step}")
        if self.group.is_main:
            manifest = self.manifest()
            manifest["sessions"].append({"started": now(), "from_step": state.step})
            self._note_checkpoints(manifest, below=state.step + 1)
        return state

    def _newest(self) -> str | None:
        manifest = None if self.finished else self.manifest()
        directory, marker, torn = find_checkpoint(self.directory / "checkpoints", manifest)
        for line in torn:
            self._say(f"skipped: {line}")
        if torn and directory is None:
            self._say("no complete checkpoint is left: from the first step again")
        if not self.finished:
            logs = {} if marker is None else marker.get("logs", {})
            self._metrics.cut(LogMark(*logs.get("metrics", EMPTY_LOG)))
            self._samples.cut(LogMark(*logs.get("samples", EMPTY_LOG)))
        if directory is None or marker is None:
            return None
        drop_old(directory.parent, marker["step"], keep=self._cadence.keep)
        return str(directory)

    def steps(
        self, state: TrainState, *, total: int, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[int]:
        """Step numbers from `state.step + 1` to `total`; each body calls `log` once.

        After each body: the step counts, a checkpoint on cadence and at the end, which also comes
        once `enough` says so. SIGTERM and SIGINT let the step finish, write a checkpoint, and leave
        with `errors.EXIT_RESUMABLE`.
        """
        if self.finished or state.step >= total or enough():
            return
        # The first checkpoint may be hours away; the optimizer's share is not known before it.
        needed = state.nbytes()
        on_main(self.group, lambda: refuse_full_disk(self.directory, needed, "one checkpoint"))
        mine = self._interrupts.install()
        self._interrupts.deferred = True
        quiet = self.quiet if self.group.is_main else True
        try:
            with ProgressLine(total=total, done=state.step, quiet=quiet) as self._progress:
                while state.step < total:
                    self._step, self._row = state.step + 1, None
                    yield self._step
                    self._progress.advance(self._step, self._logged())
                    state.step = self._step
                    stopping = any(self.group.gather_objects([self._interrupts.requested]))
                    over = state.step == total or enough()
                    if stopping or over or state.step % self._cadence.every == 0:
                        self._checkpoint(state)
                    if over:
                        return
                    if stopping:
                        break
        finally:
            self._interrupts.deferred = False
            if mine:
                self._interrupts.restore()
        self._say(f"stopped after step {state.step}; go on with --resume")
        raise SystemExit(EXIT_RESUMABLE)

    def pause(self, state: TrainState, why: str) -> NoReturn:
        """Leave the step that is being taken, as if it had not begun, with a checkpoint of the
        last finished one; `--resume` goes on from there. `state` must be what it was then.

        Raises:
            SystemExit: always, with `errors.EXIT_RESUMABLE`.
        """
        self.keep(state, f"{why}\npaused")
        raise SystemExit(EXIT_RESUMABLE)

    def keep(self, state: TrainState, what: str = "stopped") -> None:
        """A checkpoint of the last finished step, before an error ends the run; `state` must be
        what it was then."""
        self._checkpoint(state)
        if self.group.is_main:
            say(f"{what} after step {state.step}, a checkpoint is written")

    def checkpoint_seconds(self) -> float:
        """Time spent on checkpoints since the last call: those of earlier steps."""
        spent, self._saving = self._saving, 0.0
        return spent

    def _checkpoint(self, state: TrainState) -> None:
        began = time.perf_counter()
        rngs = self.group.gather_objects([rng_state()])

        def save() -> None:
            logs = self._marks()
            manifest, root = self.manifest(), self.directory / "checkpoints"
            if checkpoint_name(state.step) in manifest.get("checkpoints", {}):  # of an error's step
                self._note_checkpoints(manifest, below=state.step)
            save_checkpoint(
                root,
                state.step,
                lambda directory: state.save(directory, rngs=rngs),
                extra={"logs": logs, "state_format": STATE_FORMAT, "run": manifest["id"]},
                needed=state.nbytes(),
                keep=self._cadence.keep,
            )
            manifest["checkpoints"] = noted_checkpoints(root)
            self._write(manifest)

        on_main(self.group, save)
        self._saving += time.perf_counter() - began

    # --- the record

    def log(
        self,
        step: int,
        metrics: Mapping[str, Number],
        *,
        samples: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """The one metrics row of a step, and rows of samples.jsonl. nan is written as null.

        Raises:
            ValueError: `step` is not the one being taken, or has its row already.
        """
        if step != self._step or self._row is not None:
            raise ValueError(
                f"one metrics row a step: this is step {self._step}, got a row of step {step}"
                + ("" if self._row is None else ", and step has its row")
            )
        self._row = dict(metrics)
        if not self.group.is_main:
            return
        if samples:
            self._samples.append(samples)
        self._metrics.append([{"step": step, **metrics}])
        if self._exporters is not None:
            numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float) and v == v}
            self._exporters.send(step, numbers)

    def _logged(self) -> dict[str, Number]:
        if self._row is None:
            raise ValueError(f"step {self._step} wrote no metrics row: call log once in each step")
        return self._row

    def log_eval(self, step: int, result: Mapping[str, object]) -> None:
        """Write an evaluation as eval/step-XXXXXX.json and as eval.json."""
        match result:
            case {"metrics": {"pass@1": {"value": float() | int() as accuracy}}} if self._progress:
                self._progress.evaluated(f"pass@1 {accuracy:.3f}")
        if self.group.is_main:
            write_json(self.directory / "eval" / f"step-{step:06d}.json", {"step": step, **result})
            write_json(self.directory / "eval.json", {"step": step, **result})

    def finish(self, save_model: Callable[[Path], None]) -> None:
        """Write `final/` as a whole and mark the run finished; again after a kill is fine."""
        if self.finished:
            return

        def write() -> None:
            final = self.directory / "final"
            with written_aside(final, "writing") as aside, safetensors_as_oserror():
                save_model(aside)
                hashes = seal_tree(aside)
                manifest = self.manifest()
                if manifest["finished"] is not None:  # and its model was lost: it is made again
                    manifest["finished"], manifest["final"] = None, {}
                    self._write(manifest)
                replace_dir(aside, final)
            manifest["finished"], manifest["final"] = now(), record_files(final, hashes)
            if not self._cadence.keep_finished:
                manifest["checkpoints"] = {}
                manifest["logs"] = self._marks()
            self._write(manifest)
            if not self._cadence.keep_finished:
                remove_tree(self.directory / "checkpoints")

        on_main(self.group, write)
        self.finished = True

    def _marks(self) -> dict[str, tuple[int, str]]:
        return {"metrics": self._metrics.sync(), "samples": self._samples.sync()}

    def manifest(self) -> Manifest:
        """What manifest.json says now."""
        manifest: Manifest = read_json(self.directory / MANIFEST)
        return manifest

    def note_stages(self, stages: Mapping[str, str]) -> None:
        """Name -> hash of stage.json, or id of the stage's run, of all finished stages."""
        self._write({**self.manifest(), "stages": dict(stages)})

    def _note_checkpoints(self, manifest: Manifest, *, below: int) -> None:
        noted = manifest.get("checkpoints", {})
        kept = {name: noted[name] for name in noted if checkpoint_step(name) < below}
        if "checkpoints" in manifest:
            manifest["checkpoints"] = kept
        self._write(manifest)

    def _write(self, manifest: Manifest) -> None:
        write_json(self.directory / MANIFEST, manifest)

    def _say(self, text: str) -> None:
        if self.group.is_main and self.quiet is not True:
            say(text)


def _drop_checkpoints(directory: Path, config: Mapping[str, object]) -> None:  # a kill left them
    keep = CheckpointConfig.model_validate(config.get("checkpoint", {})).keep_finished
    if not keep and "logs" in read_json(directory / MANIFEST):
        remove_tree(directory / "checkpoints")
