"""Run a study: preparations, then every run, as many at once as there is room; then the results.

    OUT/study.yaml      the study as it was read, every key
    OUT/manifest.json   when, with what code, the hash of what was declared, and later changes
    OUT/prepared/NAME/BASE/    OUT/runs/ARM/BASE/seed-N/      each with a .log beside it, and a
                                                              .failed.json until it is finished
    OUT/sessions.json   when it ran and what that cost beyond the runs
    OUT/study.json      the results

A run is an ordinary run directory. Killed at any instant, a study continues with `resume`: finished
runs are kept, and those that had begun continue from their checkpoints.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Required, TypedDict, Unpack

from rekindle.engine.rundir import Mode
from rekindle.errors import EXIT_RESUMABLE, RunDirectoryError
from rekindle.files import remove_tree, write_json
from rekindle.study.analyse.results import study_results
from rekindle.study.plan.planning import plan, preparations
from rekindle.study.plan.study_file import PlannedRun, Preparation, Study
from rekindle.study.run.executors import Executor
from rekindle.study.run.jobs import Job, Outcome
from rekindle.study.run.progress import Table
from rekindle.study.schema import Failure, FailureNote, FinishedNote, PreparedNote, StudyResults
from rekindle.study.store.claim import claim_study
from rekindle.study.store.cost import Ledger, read_cost
from rekindle.study.store.layout import (
    MANIFEST,
    RESULTS,
    SESSIONS,
    is_finished,
    read_head,
    read_stored,
)
from rekindle.study.store.relocate import known_roots, rebased

LOG, MADE, FAILED = ".log", ".json", ".failed.json"  # beside the directory of a job
_TRIES = 2  # of a job whose worker was lost
_WAIT = 0.5  # seconds between looks at the table


@dataclass
class Work:
    """What there is to do and how each directory stands."""

    runs: list[PlannedRun]
    before: list[Preparation]
    done: set[Path] = field(default_factory=set)
    failed: dict[Path, str] = field(default_factory=dict)
    earlier: dict[Path, str] = field(default_factory=dict)  # failures of sessions before
    lost: dict[Path, int] = field(default_factory=dict)

    def load(self, roots: Sequence[str] = ()) -> None:
        """Read what earlier sessions finished, and what failed; `roots`: the directory's names."""
        self.done = {run.out for run in self.runs if is_finished(run.out)}
        for place in self.done:
            _refuse_swapped(place)
        self.done |= {item.out for item in self.before if _was_prepared(item, roots)}
        self.earlier = {
            place: f"{read_stored(_beside(place, FAILED), FailureNote).why} (in an earlier session)"
            for place in self.needs()
            if place not in self.done and _beside(place, FAILED).exists()
        }

    def waiting(self) -> list[Job]:
        """Jobs that are not finished, preparations first."""
        jobs = [Job(item.out, _beside(item.out, LOG), command=item.command) for item in self.before]
        for run in self.runs:
            jobs.append(Job(run.out, _beside(run.out, LOG), recipe=run.recipe.resolved()))
        left_out = self.done | self._not_needed()
        return [job for job in jobs if job.out not in left_out]

    def _not_needed(self) -> set[Path]:
        """Preparations that only finished runs rest on; an archive brings runs without them."""
        items: list[PlannedRun | Preparation] = [*self.runs, *reversed(self.before)]
        used = {place for item in items for place in item.needs}
        needed = {run.out for run in self.runs}
        for item in items:  # preparations after what rests on them
            wanted = item.out in needed or item.out not in used
            if wanted and item.out not in self.done:
                needed |= {item.out, *item.needs}
        return {item.out for item in self.before} - needed

    def needs(self) -> dict[Path, tuple[Path, ...]]:
        """Directory -> directories that must be finished before."""
        items: list[PlannedRun | Preparation] = [*self.before, *self.runs]
        return {item.out: item.needs for item in items}

    def record(self, outcome: Outcome) -> bool:
        """Note how a job ended; True when it is worth another try."""
        place = outcome.job.out
        if outcome.ending == "finished":
            self.done.add(place)
            if outcome.job.recipe is not None:
                _note_finished(place)
            self.earlier.pop(place, None)
            _beside(place, FAILED).unlink(missing_ok=True)
            for item in self.before:
                if item.out == place:
                    note = PreparedNote(command=list(item.command))
                    write_json(_beside(place, MADE), note.plain())
        elif outcome.ending == "lost":
            self.lost[place] = self.lost.get(place, 0) + 1
            if self.lost[place] < _TRIES:
                return True
            self.fail(place, f"{outcome.text}, {self.lost[place]} times")
        elif outcome.ending == "failed":
            self.fail(place, outcome.text)
        return False

    def fail(self, place: Path, why: str) -> None:
        """Note that it failed, also for later sessions, until it is finished."""
        self.failed[place] = why
        write_json(_beside(place, FAILED), FailureNote(why=why).plain())

    def run(self, executor: Executor, ledger: Ledger, *, quiet: bool) -> bool:
        """Run what is not finished; True after SIGTERM or SIGINT, everything saved."""
        for item in self.runs:  # those of an archive are noted now, and those to be made anew too
            if item.out in self.done:
                _note_finished(item.out)
            else:
                _beside(item.out, MADE).unlink(missing_ok=True)
        signals: list[int] = []
        table = Table(self.runs, self.before, quiet=quiet)
        with _signals_into(signals), table.drawn():
            try:
                _run_all(self, executor, table, ledger, lambda: bool(signals))
            finally:
                for outcome in executor.stop():
                    self.record(outcome)
                    ledger.ended(outcome.job.out, outcome.seconds)
        return bool(signals)

    def results(self, study: Study, out: Path, runs: Sequence[PlannedRun]) -> StudyResults:
        """What study.json holds of a study's finished runs, but for what the study itself cost."""
        why = {**self.earlier, **self.failed}
        failures = [
            Failure(arm=run.arm, base=run.base, seed=run.seed, why=why[run.out])
            for run in runs
            if run.out in why
        ]
        failures += [
            Failure(preparation=item.name, base=item.base, why=why[item.out])
            for item in self.before
            if item.out in why
        ]
        return study_results(study, out, runs, failures)


class SessionOptions(TypedDict, total=False):
    """How a study is run. `since`: `time.monotonic()` when the command began; None: now."""

    executor: Required[Executor]
    mode: Mode
    command: str
    quiet: bool
    since: float | None


class Part(NamedTuple):
    """A study that is run in a session, perhaps beside others."""

    study: Study
    out: Path
    runs: list[PlannedRun]


def execute_study(study: Study, out: Path, **options: Unpack[SessionOptions]) -> StudyResults:
    """Run what is not finished yet and write the results to study.json; raises what `run_study`
    does once the study file is read."""
    runs = plan(study, out)
    work = Work(runs, preparations(study, out))
    return execute_parts([Part(study, out, runs)], work, out, **options)[0]


def execute_parts(
    parts: Sequence[Part],
    work: Work,
    out: Path,
    *,
    executor: Executor,
    mode: Mode = "new",
    command: str = "",
    quiet: bool = False,
    since: float | None = None,
) -> list[StudyResults]:
    """Run the `work` of all parts, every directory claimed or none; write the study.json of each.

    What the session cost is in `out`/sessions.json. Raises: see `run_study`.
    """
    workers = executor.slots
    with ExitStack() as claims:
        for study, place, runs in parts:
            lock = claim_study(study, place, runs, mode=mode, command=command, workers=workers)
            claims.callback(lock.release)
        if mode == "overwrite":
            remove_tree(out / SESSIONS)
        work.load([root for part in parts for root in known_roots(part.out)])
        ledger = Ledger(out, workers=workers, since=since)
        stopped = work.run(executor, ledger, quiet=quiet)
        results = [work.results(*part) for part in parts]
        ledger.write()  # the statistics took their time too
        for i, part in enumerate(parts):
            results[i] = results[i].with_(cost=read_cost(part.out))
            write_json(part.out / RESULTS, results[i].plain())
    if stopped:
        raise SystemExit(EXIT_RESUMABLE)
    return results


def _run_all(
    work: Work, executor: Executor, table: Table, ledger: Ledger, stopped: Callable[[], bool]
) -> None:
    waiting, needs = work.waiting(), work.needs()
    running: dict[Path, Job] = {}
    while (waiting or running) and not stopped():
        waiting = _unblocked(waiting, needs, work)
        for job in [job for job in waiting if set(needs[job.out]) <= work.done]:
            if len(running) == executor.slots:
                break
            executor.submit(job)
            waiting.remove(job)
            running[job.out] = job
            ledger.began(job.out)
            table.started(job.out)
        if not running:
            for job in waiting:
                missing = next(place for place in needs[job.out] if place not in work.done)
                work.fail(job.out, f"needs {missing}, which nothing makes")
            return
        for outcome in executor.wait(_WAIT):
            job = running.pop(outcome.job.out)
            if outcome.ending == "stopped" and not stopped():  # of itself: a source that failed
                outcome = replace(outcome, ending="failed", text=f"it paused; see {job.log}")
            if work.record(outcome):
                waiting.insert(0, job)
            ledger.ended(job.out, outcome.seconds)
            table.ended(outcome)
        ledger.tick()
        table.refresh(done=work.done, failed=work.failed, running=running)


def _unblocked(waiting: list[Job], needs: dict[Path, tuple[Path, ...]], work: Work) -> list[Job]:
    """Those that rest on nothing that failed; the others fail, and with them what rests on them."""
    left = []
    for job in waiting:
        bad = next((place for place in needs[job.out] if place in work.failed), None)
        if bad is None:
            left.append(job)
        else:
            work.fail(job.out, f"needs {bad}, which failed: {work.failed[bad]}")
    return left if len(left) == len(waiting) else _unblocked(left, needs, work)


@contextmanager
def _signals_into(signals: list[int]) -> Iterator[None]:
    """SIGTERM and SIGINT are noted, in the main thread; a second SIGINT interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if signals and number == signal.SIGINT:
            raise KeyboardInterrupt
        signals.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(place.name + ending)


def _note_finished(place: Path) -> None:
    """Note the id of a finished run beside it."""
    id = read_head(place).id if (place / MANIFEST).exists() else None
    if id is not None and not _beside(place, MADE).exists():
        write_json(_beside(place, MADE), FinishedNote(id=id).plain())


def swapped(place: Path) -> str | None:
    """How a finished run is not the one that the study finished there; None where it is."""
    if not is_finished(place):
        return None
    path, id = _beside(place, MADE), read_head(place).id
    noted = read_stored(path, FinishedNote).id if path.exists() and id is not None else id
    return None if noted == id else f"is run {id}, and the study made run {noted}"


def _refuse_swapped(place: Path) -> None:
    fault = swapped(place)
    if fault is not None:
        raise RunDirectoryError(
            f"{place} {fault} there",
            why="its numbers would stand under this study's name",
            fix="put it back, or remove the directory: --resume makes it again",
        )


def _was_prepared(item: Preparation, roots: Sequence[str]) -> bool:
    marker = _beside(item.out, MADE)
    if not marker.exists():
        return False
    before = read_stored(marker, PreparedNote).command
    return rebased(before, roots) == rebased(list(item.command), roots)
