"""Workers on this machine: processes that live as long as the study.

Without cards they are forked from a process that has loaded torch and all that a run needs
(`preload`): its memory is shared, and a new worker is there at once. With cards each loads for
itself, for a driver that was asked for its devices does not survive a fork.

A worker that dies (killed, out of memory, a crash in native code) costs its job one try, never the
study: another takes its place.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess, SpawnProcess
from typing import Any

from rekindle.engine.threads import calm_threads
from rekindle.study.run.jobs import Job, Outcome, run_job, watch_study

_GRACE = 60.0  # seconds for a step and a checkpoint before a worker is killed
_UNKNOWN = 255  # exit code where the process that would know it is gone
_JOBS = 32  # of one worker, whose heap grows by some 4 MB a job; a new one costs next to nothing
_Process = ForkServerProcess | SpawnProcess


def warm_up() -> None:
    """Begin to load what workers need, beside what this process does meanwhile."""
    get_context("forkserver").set_forkserver_preload(["rekindle.study.run.preload"])
    forkserver.ensure_running()


@dataclass
class _Worker:
    process: _Process
    pipe: Connection
    alive: Connection  # open as long as the study is there
    job: Job | None = None
    began: float = field(default=0.0)
    served: int = 0


class LocalPool:
    """Up to `slots` jobs at once, each in a process of one thread (one card where there are any).

    Args:
        slots: how many.
        cards: CUDA devices to hand out, one to a worker; empty: none.
    """

    def __init__(self, slots: int, *, cards: tuple[int, ...] = ()) -> None:
        self._slots = slots
        self._cards = cards
        self._workers: list[_Worker | None] = [None] * slots

    @property
    def slots(self) -> int:
        """How many run at once."""
        return self._slots

    def submit(self, job: Job) -> None:
        """Start a job in a free worker."""
        for place in range(self._slots):
            worker = self._workers[place]
            if worker is not None and worker.job is not None:
                continue
            if worker is None or not worker.process.is_alive():
                worker = self._workers[place] = self._start(place)
            worker.pipe.send(job)
            worker.job, worker.began = job, time.monotonic()
            return
        raise ValueError(f"all {self._slots} workers are busy")

    def wait(self, seconds: float) -> list[Outcome]:
        """What ended; a worker that died ends its job as `lost`."""
        busy = {w.pipe: (i, w) for i, w in enumerate(self._workers) if w is not None and w.job}
        if not busy:
            return []
        outcomes = []
        for pipe in connection.wait(list(busy), timeout=seconds):
            place, worker = busy[pipe]  # type: ignore[index]
            job = worker.job
            assert job is not None
            try:
                outcomes.append(worker.pipe.recv())
                worker.job = None
                worker.served += 1
            except (EOFError, ConnectionResetError):
                worker.process.join(5)
                outcomes.append(_death(job, worker.process.exitcode, worker.began))
                self._workers[place] = None
            if worker.served >= _JOBS:
                self._workers[place] = None
                _retire(worker)
        return outcomes

    def stop(self) -> list[Outcome]:
        """Busy workers finish their step, save and leave; idle ones leave.

        One whose job came to its end before the signal reached it sends its outcome as ever.
        """
        outcomes = []
        for worker in filter(None, self._workers):
            if worker.job is None:
                worker.pipe.close()
            elif worker.process.pid is not None:
                os.kill(worker.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for worker in filter(None, self._workers):
            if worker.job is not None:
                outcomes.append(_last_word(worker, worker.job, deadline))
                worker.pipe.close()  # a worker that waits for its next job leaves
            worker.process.join(max(0.1, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.alive.close()
        self._workers = [None] * self._slots
        return outcomes

    def _start(self, place: int) -> _Worker:
        ours, theirs = connection.Pipe()
        watched, alive = connection.Pipe(duplex=False)
        env = {"OMP_NUM_THREADS": "1"}
        process: _Process
        if self._cards:
            env["CUDA_VISIBLE_DEVICES"] = str(self._cards[place % len(self._cards)])
            process = get_context("spawn").Process(target=_serve, args=(theirs, watched, env))
        else:
            warm_up()
            process = get_context("forkserver").Process(target=_serve, args=(theirs, watched, env))
        process.start()
        theirs.close()
        watched.close()
        return _Worker(process, ours, alive)


def _serve(pipe: Connection, alive: Connection, env: dict[str, str]) -> None:
    os.environ.update(env)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    calm_threads()
    # Ctrl-C reaches the whole process group: the study stops its workers in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    watch_study(alive)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        outcome = run_job(job)
        try:
            pipe.send(outcome)
        except BrokenPipeError:
            return
        if outcome.ending == "stopped":
            return


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(0)


def _retire(worker: _Worker) -> None:
    worker.pipe.close()  # it waits for a next job, and leaves
    worker.process.join(5)
    worker.alive.close()


def _last_word(worker: _Worker, job: Job, deadline: float) -> Outcome:
    try:
        if worker.pipe.poll(max(0.0, deadline - time.monotonic())):
            outcome: Outcome = worker.pipe.recv()
            return outcome
    except (EOFError, ConnectionResetError):
        pass
    return Outcome(job, "stopped", "", time.monotonic() - worker.began)


def _death(job: Job, code: int | None, began: float) -> Outcome:
    spent = time.monotonic() - began
    if code is None or code == _UNKNOWN:
        return Outcome(job, "lost", "its worker is gone", spent)
    if code < 0:
        return Outcome(job, "lost", f"ended by {signal.Signals(-code).name}", spent)
    if code == 0:  # `_leave`: SIGTERM reached the whole process group
        return Outcome(job, "lost", "its worker was told to leave", spent)
    return Outcome(job, "failed", f"exit code {code}; see {job.log}", spent)
