"""A user's reward in a process of its own, asked one text at a time, with a wall clock.

Whatever a reward does, the process that asks goes on: a call that takes too long ends the child and
its children, and another child takes its place. The reward's code is loaded there alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from multiprocessing import connection
from typing import IO, NamedTuple

from rekindle.errors import ConfigError
from rekindle.rewards.probing.signatures import Asked, Names

_STARTING = 120.0  # seconds for the module's imports
_FIRST = 4  # times the limit of a call, for the first of all, which may load a model
TIMEOUT = "timeout"
ENDED = "the process ended"


class Way(NamedTuple):
    """A way to call the reward, in words; `assumed`: a name did not say its role."""

    shown: str
    assumed: bool


class Outcome(NamedTuple):
    """A score; None without one, and then what was raised (`TIMEOUT`: the call took too long)."""

    value: float | None
    raised: str | None = None


class RewardProcess:
    """The reward at a place, ready to be asked.

    Raises:
        ConfigError: it cannot be loaded, or how to call it cannot be told.
    """

    def __init__(self, place: str, names: Names, *, timeout: float) -> None:
        self._command = [sys.executable, "-m", "rekindle.rewards.probing.reward_child", place]
        self._command.append(json.dumps(names))
        self._place, self._timeout = place, timeout
        self._first = _FIRST * timeout  # seconds more for the first call of a process
        self._open: _Child | None = None
        self.ways = self._start().ways

    def ask(self, way: int, asked: Asked) -> Outcome:
        """The score of one text; the first call has five times as long."""
        child = self._open or self._start()
        request = json.dumps({"call": way, "asked": asked}) + "\n"
        began = time.monotonic()
        with suppress(ConnectionError):  # its process ended: `_line` sees that
            child.socket.sendall(request.encode())
        line = _line(child, self._timeout + (0.0 if child.is_warm else self._first))
        if isinstance(line, str):
            self.close()
            return Outcome(None, line)
        if not child.is_warm:
            self._first = time.monotonic() - began
            self._open = child._replace(is_warm=True)
        reply = json.loads(line)
        return Outcome(reply["value"], reply["raised"])

    def close(self) -> None:
        """End the process and what it started; a later `ask` starts it again."""
        if self._open is not None:
            _end(self._open)
        self._open = None

    def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                self._command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        child = _Child(process, ours, ours.makefile("rb"), [])
        with ExitStack() as failed:
            failed.callback(_end, child)
            line = _line(child, _STARTING)
            if isinstance(line, str):
                raise self._not_loaded(line)
            reply = json.loads(line)
            if "refused" in reply:
                raise ConfigError(reply["refused"].pop("what"), **reply["refused"])
            failed.pop_all()
        self._open = child._replace(ways=[Way(**way) for way in reply["calls"]])
        return self._open

    def _not_loaded(self, why: str) -> ConfigError:
        slow = f"its module took more than {_STARTING:g} s"
        return ConfigError(
            f"reward '{self._place}' does not load",
            got=slow if why == TIMEOUT else "its process ended",
            wanted="a module that imports without ending Python",
            fix="import it in a Python shell to see why",
        )


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    socket: socket.socket
    replies: IO[bytes]
    ways: list[Way]
    is_warm: bool = False  # it has answered once


def _line(child: _Child, seconds: float) -> bytes | str:
    """What a child answers, or why it does not."""
    if not connection.wait([child.socket], seconds):
        return TIMEOUT
    try:
        line = child.replies.readline()
    except ConnectionError:
        line = b""
    return line if line.endswith(b"\n") else ENDED


def _end(child: _Child) -> None:
    child.replies.close()
    child.socket.close()
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)  # a session of its own, not waited for yet
    child.process.wait()
