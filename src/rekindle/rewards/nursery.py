"""Processes forked from one that has imported what they need: ready in milliseconds.

Killing a verifier must be cheap, or a few hanging answers make a pool slower than one process:
sympy takes most of a second to import. The template (`python -m rekindle.rewards.worker`) imports
once and does nothing but fork and kill on request, over a socket that is its standard input.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys

_STARTING = 60.0  # seconds for the template's imports; later requests take milliseconds


class NotStartedError(Exception):
    """The template process ended, or did not get ready, before it could fork."""


class Nursery:
    """Forks workers on request and ends them.

    Args:
        words: arguments of `python -m rekindle.rewards.worker`.
    """

    def __init__(self, words: list[str]) -> None:
        self.command = ["-m", "rekindle.rewards.worker", *words]
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self) -> tuple[int, socket.socket]:
        """A new worker: its process id and the socket that talks to it.

        Raises:
            NotStartedError: twice in a row no template came up.
        """
        try:
            return self._fork()
        except (OSError, NotStartedError):  # somebody killed the template
            self.close()
            return self._fork()

    def end(self, pid: int) -> None:
        """Kill a worker that `fork` returned and wait for its end."""
        try:
            self._ask({"end": pid})
        except (OSError, NotStartedError):
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
            except (OSError, NotStartedError):
                ours.close()
                raise

    def _ask(self, request: dict[str, object], passing: socket.socket | None = None) -> int:
        control = self._control or self._start()
        handles = [] if passing is None else [passing.fileno()]
        socket.send_fds(control, [json.dumps(request).encode()], handles)
        reply = control.recv(64)
        if not reply:
            raise NotStartedError
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
