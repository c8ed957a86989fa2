"""A pool of verifier processes that can be killed.

Answers are hostile: they hang the parser, fill the memory, nest a thousand deep. Each is checked in
a process with a memory limit and a hard wall clock; a process that overruns is killed, its answer
is missing with the reason, and another process takes its place. Processes are replaced after
`recycle` answers, too, so that what leaks stays small.

    1, 0, or missing: timeout | memory | parse: ... | error: ...

Killing a verifier must be cheap, or a few hanging answers make a pool slower than one process:
sympy takes most of a second to import. So workers are forked from a template process (`python -m
rekindle.rewards.worker`), which imports once and does nothing but fork and kill on request, over a
socket that is its standard input. They share nothing with this process, and leave when it does (on
Linux when the thread that started them does, so keep a pool in one that lasts).
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import cache
from importlib.util import find_spec
from multiprocessing import connection
from typing import IO

from rekindle.errors import ConfigError, missing_extra
from rekindle.records import Score
from rekindle.rewards.verifiers.verify import AS_READ, Settings

POOLED = ("math",)  # verifiers that are never run in this process
_STARTING = 60.0  # seconds for the template's imports; later requests take milliseconds


@dataclass
class _WorkerProcess:
    pid: int
    connection: socket.socket
    replies: IO[bytes]
    item: int | None = None  # which answer it is at
    deadline: float = 0.0
    served: int = 0


@dataclass(eq=False)
class VerifierPool:
    """Grades (gold, text) pairs, several at once."""

    verifier: str  # `exact`, `numeric`, `math`, or the `package.module:function` of one like them
    _: KW_ONLY
    workers: int | None = None  # None: two for each core, since an answer that hangs is waited for
    timeout: float = 5.0  # seconds of wall clock for one answer
    memory: int = 2048  # MiB of address space of a process
    recycle: int = 1000  # answers after which a process is replaced

    def __post_init__(self) -> None:
        cores = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count()
        self._nursery = Nursery([self.verifier, str(self.memory)])
        self._size = self.workers or 2 * (cores or 1)
        self._workers: list[_WorkerProcess] = []
        self._owner = os.getpid()
        atexit.register(self.close)

    def grade(
        self, answers: Sequence[tuple[str, str]], settings: Sequence[Settings] | None = None
    ) -> list[Score]:
        """A score for each (gold, text), in order; `settings` says how each is read.

        Raises:
            ConfigError: workers cannot be started.
        """
        for worker in self._busy().values():
            self._end(worker)  # a call that an exception ended left it at an answer of its own
        how = settings or [AS_READ] * len(answers)
        scores = [Score.missing("error")] * len(answers)
        waiting = deque(enumerate(zip(answers, how, strict=True)))
        while waiting or self._busy():
            self._keep_up(len(waiting))
            for worker in self._workers:
                if waiting and worker.item is None:
                    worker.item, ((gold, text), read) = waiting.popleft()
                    request = json.dumps({"gold": gold, "text": text, "settings": read}) + "\n"
                    worker.deadline = time.monotonic() + self.timeout
                    with suppress(ConnectionError):  # its process ended: `_receive` sees that
                        worker.connection.sendall(request.encode())
            for item, worker in self._look().items():
                scores[item] = self._receive(worker)
            now = time.monotonic()
            for item, worker in self._busy().items():
                if worker.deadline <= now:
                    scores[item] = Score.missing("timeout")
                    self._end(worker)
        return scores

    def close(self) -> None:
        """End all processes; a later `grade` starts them again. A forked copy of this process ends
        nothing: they are not its own."""
        if os.getpid() != self._owner:
            return
        for worker in list(self._workers):
            self._end(worker)
        self._nursery.close()

    @property
    def pids(self) -> list[int]:
        """The processes there are."""
        return [worker.pid for worker in self._workers]

    def _keep_up(self, waiting: int) -> None:
        for worker in [w for w in self._workers if w.item is None and w.served >= self.recycle]:
            self._end(worker)
        idle = sum(worker.item is None for worker in self._workers)
        for _ in range(min(self._size - len(self._workers), waiting - idle)):
            try:
                pid, link = self._nursery.fork()
            except OSError as error:
                self.close()
                raise ConfigError(
                    f"workers of the verifier '{self.verifier}' do not start",
                    got="their process ended before it was ready",
                    wanted=f"python {' '.join(self._nursery.command)}",
                    fix="run that command to see why",
                ) from error
            self._workers.append(_WorkerProcess(pid, link, link.makefile("rb")))

    def _busy(self) -> dict[int, _WorkerProcess]:
        """By the answers that they are at."""
        return {worker.item: worker for worker in self._workers if worker.item is not None}

    def _look(self) -> dict[int, _WorkerProcess]:
        """Those that replied, or ended, before the first deadline."""
        busy = self._busy()
        soonest = min((worker.deadline for worker in busy.values()), default=0.0)
        connections = [worker.connection for worker in busy.values()]
        ready = connection.wait(connections, max(0.0, soonest - time.monotonic()))
        return {item: worker for item, worker in busy.items() if worker.connection in ready}

    def _receive(self, worker: _WorkerProcess) -> Score:
        try:
            line = worker.replies.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            self._end(worker)
            return Score.missing("error: the process ended")
        reply = json.loads(line)
        worker.item, worker.served = None, worker.served + 1
        if reply["reason"] == "memory":
            worker.served = self.recycle  # what it holds is not given back
        return Score(reply["value"], reason=reply["reason"])

    def _end(self, worker: _WorkerProcess) -> None:
        worker.replies.close()
        worker.connection.close()
        self._nursery.end(worker.pid)
        self._workers.remove(worker)


class Nursery:
    """Forks workers on request, ready in milliseconds, and ends them; `arguments`: of the module
    that they run."""

    def __init__(self, arguments: list[str]) -> None:
        self.command = ["-m", "rekindle.rewards.worker", *arguments]
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self) -> tuple[int, socket.socket]:
        """A new worker: its process id and the socket that talks to it.

        Raises:
            OSError: twice in a row no template came up.
        """
        try:
            return self._fork()
        except OSError:  # somebody killed the template
            self.close()
            return self._fork()

    def end(self, pid: int) -> None:
        """Kill a worker that `fork` returned and wait for its end."""
        try:
            self._ask({"end": pid})
        except OSError:
            self.close()  # with the template go all its workers

    def close(self) -> None:
        """End the template and all workers; a later `fork` starts again."""
        if self._control is not None:
            self._control.close()
        if self._template is not None:
            self._template.kill()
            self._template.wait()
        self._control = self._template = None

    def _fork(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                return self._ask({"fork": True}, theirs), ours
            except OSError:
                ours.close()
                raise

    def _ask(self, request: dict[str, int], passing: socket.socket | None = None) -> int:
        control = self._control or self._start()
        handles = [] if passing is None else [passing.fileno()]
        socket.send_fds(control, [json.dumps(request).encode()], handles)
        reply = control.recv(64)
        if not reply:
            raise ConnectionResetError("the template process ended")
        return int(reply)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._template = subprocess.Popen(
                [sys.executable, *self.command],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        ours.settimeout(_STARTING)
        self._control = ours
        return ours


def check_pooled(verifier: str) -> None:
    """Refuse a verifier whose package is not installed, before anything is loaded.

    Raises:
        MissingExtraError: math-verify is missing.
    """
    if verifier == "math" and find_spec("math_verify") is None:
        raise missing_extra("math-verify", extra="math", needed_for="verifier: math")


@cache
def shared_pool(verifier: str, timeout: float, workers: int | None) -> VerifierPool:
    """One pool for everyone in this process who asks for the same."""
    return VerifierPool(verifier, timeout=timeout, workers=workers)
