"""What a study itself costs: the time in which a worker had no run.

    overhead = 1 - busy / capacity
    busy       seconds in which a worker had a run or preparation, over all workers and sessions
    capacity   sum over sessions of wall seconds x workers

A session is one call of `rekindle study`, from its start, before any library is loaded, to its
results. It is written down whenever a job begins or ends and every few seconds between, so that of
a session that is killed no more than the last of these is lost, of wall and busy time alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rekindle.engine.manifest import checkout, now
from rekindle.files import write_json
from rekindle.study.schema import Session, StudyCost
from rekindle.study.store.layout import SESSIONS, read_stored
from rekindle.version import __version__

_EVERY = 10.0  # seconds


class Ledger:
    """One session's account beside those in `out`; call `began` and `ended` for each job. `since`:
    `time.monotonic()` at its start; None: now."""

    def __init__(self, out: Path, *, workers: int, since: float | None = None) -> None:
        self._path = out / SESSIONS
        self._before = read_sessions(self._path) if self._path.exists() else []
        self._since = time.monotonic() if since is None else since
        self._running: dict[Path, float] = {}
        self._busy, self._jobs, self._first = 0.0, 0, float("nan")
        self._started, self._workers = now(), workers
        self.write()

    def began(self, place: Path) -> None:
        """A job was given to a worker."""
        if not self._running and not self._jobs:
            self._first = time.monotonic() - self._since
        self._running[place] = time.monotonic()

    def ended(self, place: Path, seconds: float) -> None:
        """A job ended, after so many seconds of a worker."""
        self._running.pop(place, None)
        self._busy += seconds
        self._jobs += 1
        self.write()

    def tick(self) -> None:
        """Write, if the last time was long ago."""
        if time.monotonic() - self._written > _EVERY:
            self.write()

    def write(self) -> None:
        """The account up to now."""
        self._written = time.monotonic()
        running = sum(self._written - began for began in self._running.values())
        session = Session(
            started=self._started,
            workers=self._workers,
            rekindle=__version__,
            commit=checkout()["commit"],
            dirty=checkout()["dirty"],
            wall_seconds=self._written - self._since,
            busy_seconds=self._busy + running,
            first_job_seconds=self._first,
            jobs=self._jobs,
        )
        write_json(self._path, [one.plain() for one in [*self._before, session]])


def cost_of(sessions: Sequence[Session]) -> StudyCost:
    """The sums over sessions, as study.json holds them."""
    capacity = sum(session.wall_seconds * session.workers for session in sessions)
    busy = sum(session.busy_seconds for session in sessions)
    return StudyCost(
        wall_seconds=sum(session.wall_seconds for session in sessions),
        busy_seconds=busy,
        overhead=max(0.0, 1 - busy / capacity) if capacity and busy else None,
        sessions=list(sessions),
    )


def read_cost(out: Path) -> StudyCost | None:
    """The cost of a study; None where it was made before costs were written down."""
    path = out / SESSIONS
    return cost_of(read_sessions(path)) if path.exists() else None


def read_sessions(path: Path) -> list[Session]:
    """The content of sessions.json; DataError where it is missing or damaged."""
    return read_stored(
        path,
        list[Session],
        wanted="a list of sessions, each with wall_seconds, busy_seconds, workers",
        fix="restore it, or remove it: the cost is then counted from now on",
    )


def cost_line(cost: StudyCost) -> str:
    """The cost in one line."""
    workers = sorted({session.workers for session in cost.sessions})
    several = f" in {len(cost.sessions)} sessions" if len(cost.sessions) > 1 else ""
    share = "" if cost.overhead is None else f": {cost.overhead:.1%} without a run"
    return (
        f"{cost.wall_seconds:,.0f} s{several} with {' or '.join(map(str, workers))} "
        f"worker{'s' if workers != [1] else ''}, {cost.busy_seconds:,.0f} s of runs{share}"
    )
