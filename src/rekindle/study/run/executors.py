"""Where jobs run: worker processes on this machine, or a Ray cluster (extra `[ray]`).

Workers on this machine live as long as the study. Without GPUs they are forked from a process that
has loaded torch and all that a run needs (`preload`): its memory is shared, and a new worker starts
at once. With GPUs each loads for itself, because CUDA does not survive a fork. A worker that dies
(killed, out of memory, a crash in native code) costs its job one try, never the study: another
takes its place.

On a cluster a job is one task. Run directories must be on storage that every node sees under the
same path. A run whose worker or node is lost continues from its checkpoint on another.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from rekindle.engine.threads import calm_threads
from rekindle.errors import ConfigError, did_you_mean, missing_extra
from rekindle.study.run.jobs import Job, Outcome, run_job, watch_study

_GRACE = 60.0  # seconds for a step and a checkpoint before a worker is killed
_UNKNOWN = 255  # exit code where the process that would know it is gone
_JOBS = 32  # of one worker, whose heap grows by some 4 MB a job; a new one costs next to nothing
EXECUTORS = ("local", "ray")


class Executor(Protocol):
    """Where jobs run."""

    slots: int  # how many run at once

    def submit(self, job: Job) -> None:
        """Start a job; only while fewer than `slots` run."""

    def wait(self, seconds: float) -> list[Outcome]:
        """What ended since the last call; waits at most so long for the first."""

    def stop(self) -> list[Outcome]:
        """Ask all jobs to save and stop; returns how those that were running ended."""


def check_executor(name: str, jobs: int | None) -> None:
    """ConfigError where there is no such executor, or where there are too few jobs."""
    if name not in EXECUTORS:
        raise ConfigError(
            f"there is no executor '{name}'",
            wanted=" or ".join(EXECUTORS),
            fix=did_you_mean(name, EXECUTORS),
        )
    if jobs is not None and jobs < 1:
        raise ConfigError("--jobs is too small", got=jobs, wanted="at least 1")


def make_executor(name: str, jobs: int | None) -> Executor:
    """An executor that is checked, with `jobs` at once; None: one a GPU, or one a core."""
    if name == "ray":
        return RayPool(jobs)
    import torch

    cards = tuple(range(torch.cuda.device_count()))
    cores = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count()
    return LocalPool(jobs or len(cards) or cores or 1, cards=cards)


def warm_up() -> None:
    """Begin to load what workers need, beside what this process does meanwhile."""
    get_context("forkserver").set_forkserver_preload(["rekindle.study.run.preload"])
    forkserver.ensure_running()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    alive: Connection  # open as long as the study is there
    job: Job | None = None
    began: float = 0.0
    served: int = 0


@dataclass
class LocalPool:
    """Up to `slots` jobs at once, each in a process of one thread (and one card, if any)."""

    slots: int
    cards: tuple[int, ...] = ()  # CUDA devices to hand out, one to a worker

    def __post_init__(self) -> None:
        self._workers: list[_Worker | None] = [None] * self.slots

    def submit(self, job: Job) -> None:
        for place, worker in enumerate(self._workers):
            if worker is not None and worker.job is not None:
                continue
            if worker is None or not worker.process.is_alive():
                worker = self._workers[place] = self._start(place)
            worker.pipe.send(job)
            worker.job, worker.began = job, time.monotonic()
            return
        raise ValueError(f"all {self.slots} workers are busy")

    def wait(self, seconds: float) -> list[Outcome]:
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
                worker.pipe.close()  # it waits for a next job, and leaves
                worker.process.join(5)
                worker.alive.close()
        return outcomes

    def stop(self) -> list[Outcome]:
        # A worker whose job came to its end before the signal reached it sends its outcome as ever.
        outcomes = []
        for worker in filter(None, self._workers):
            if worker.job is None:
                worker.pipe.close()
            elif worker.process.pid is not None:
                os.kill(worker.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for worker in filter(None, self._workers):
            if worker.job is not None:
                outcome: Outcome | None = None
                with suppress(EOFError, ConnectionResetError):
                    if worker.pipe.poll(max(0.0, deadline - time.monotonic())):
                        outcome = worker.pipe.recv()
                spent = time.monotonic() - worker.began
                outcomes.append(outcome or Outcome(worker.job, "stopped", "", spent))
                worker.pipe.close()  # a worker that waits for its next job leaves
            worker.process.join(max(0.1, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.alive.close()
        self._workers = [None] * self.slots
        return outcomes

    def _start(self, place: int) -> _Worker:
        ours, theirs = connection.Pipe()
        watched, alive = connection.Pipe(duplex=False)
        env = {"OMP_NUM_THREADS": "1"}
        context: SpawnContext | ForkServerContext = get_context("forkserver")
        if self.cards:
            env["CUDA_VISIBLE_DEVICES"] = str(self.cards[place % len(self.cards)])
            context = get_context("spawn")
        else:
            warm_up()
        process = context.Process(target=_serve, args=(theirs, watched, env))
        with _without_main():
            process.start()
        theirs.close()
        watched.close()
        return _Worker(process, ours, alive)


@contextmanager
def _without_main() -> Iterator[None]:
    """Workers need nothing of the user's script. Were it there while they start, each would run it
    again, and a script without `if __name__ == "__main__":` would start the study again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, alive: Connection, env: dict[str, str]) -> None:
    os.environ.update(env)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    calm_threads()
    # Ctrl-C reaches the whole process group: the study stops its workers in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
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


def _death(job: Job, code: int | None, began: float) -> Outcome:
    spent = time.monotonic() - began
    if code is None or code == _UNKNOWN:
        return Outcome(job, "lost", "its worker is gone", spent)
    if code < 0:
        return Outcome(job, "lost", f"ended by {signal.Signals(-code).name}", spent)
    if code == 0:  # as in `_serve`: SIGTERM reached the whole process group
        return Outcome(job, "lost", "its worker got SIGTERM", spent)
    return Outcome(job, "failed", f"exit code {code}; see {job.log}", spent)


class RayPool:
    """As many jobs at once as the cluster has cores (cards, where it has any), at most `slots`.

    Raises:
        MissingExtraError: ray is not installed.
    """

    def __init__(self, slots: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing_extra("ray", extra="ray", needed_for="--executor ray") from error
        self._ray: Any = ray
        self._mine = not ray.is_initialized()
        if self._mine:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        room = ray.cluster_resources()
        cards = 1 if room.get("GPU", 0.0) >= 1 else 0
        self.slots = slots or int(room["GPU" if cards else "CPU"])
        # Ray would run a lost task again by itself; the study counts tries, so it must hear of it.
        self._task = ray.remote(num_cpus=1, num_gpus=cards, max_retries=0)(_run_on_node)
        self._running: dict[Any, tuple[Job, float]] = {}

    def submit(self, job: Job) -> None:
        self._running[self._task.remote(job, str(Path.cwd()))] = (job, time.monotonic())

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._outcome(reference) for reference in ready]

    def stop(self) -> list[Outcome]:
        outcomes = []  # what is cancelled continues from its last checkpoint later
        for reference, (job, began) in self._running.items():
            self._ray.cancel(reference, force=True)
            outcomes.append(Outcome(job, "stopped", "", time.monotonic() - began))
        self._running.clear()
        if self._mine:
            self._ray.shutdown()
        return outcomes

    def _outcome(self, reference: Any) -> Outcome:
        job, began = self._running.pop(reference)
        errors = self._ray.exceptions
        spent = time.monotonic() - began
        try:
            outcome: Outcome = self._ray.get(reference)
            return outcome
        except errors.RayTaskError as error:
            return Outcome(job, "failed", str(error.cause), spent)
        except errors.RayError as error:  # its worker, node or object is gone
            return Outcome(job, "lost", type(error).__name__, spent)


def _run_on_node(job: Job, directory: str) -> Outcome:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    calm_threads()
    os.chdir(directory)
    return run_job(job)
