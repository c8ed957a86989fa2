"""How a run shows that it is alive: a live line on a terminal, plain lines elsewhere.

Nothing here can end a run: where standard error is closed, full or gone, the text is lost.
"""

import io
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from typing import IO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

Number = float | int

_PLAIN_SHARE = 0.1  # of the steps between plain lines,
_PLAIN_SECONDS = 30.0  # or this long, whichever is sooner
_FIRST_SECONDS = 5.0  # of sampling without a line; each wait is twice the last, up to the above


class CalmStream(io.TextIOBase):
    """A stream, whatever has become of it, without its errors."""

    def __init__(self, stream: io.TextIOBase | None) -> None:
        self._stream = io.StringIO() if stream is None else stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError, ValueError):  # a closed pipe or file, an encoding without the sign
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if there is anything that can be."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether someone sees it live."""
        with suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Which signs can be shown."""
        return self._stream.encoding or "ascii"


def standard_error() -> CalmStream:
    """Where text goes; a program without standard error has none."""
    return CalmStream(cast(io.TextIOBase | None, sys.stderr))


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=standard_error(), flush=True)


say_once = cache(say)  # of a process: the same line is not said again


class _Count:
    """What one long piece of sampling is for, and how far it has come."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._printed, self._wait = time.monotonic(), _FIRST_SECONDS
        say(f"{what}: {total} answers")

    def add(self, answers: int, token: int) -> None:
        self._done += answers
        now = time.monotonic()
        if now - self._printed < self._wait or self._done >= self._total:
            return
        self._printed, self._wait = now, min(2 * self._wait, _PLAIN_SECONDS)
        within = f", token {token}" if token else ""
        say(f"{self._what}: {self._done} of {self._total} answers{within}")


_COUNT: ContextVar[_Count | None] = ContextVar("count", default=None)


@contextmanager
def counting(what: str, total: int, *, quiet: bool | None) -> Iterator[None]:
    """Say how many answers `what` needs; in the block, `count_answers` says how far it has come."""
    token = _COUNT.set(None if quiet is True else _Count(what, total))
    try:
        yield
    finally:
        _COUNT.reset(token)


def count_answers(finished: int, *, token: int = 0) -> None:
    """So many more answers are finished, or the ones under way have come to a token; a line on
    standard error after 5 s, then more rarely. Nothing outside of `counting`."""
    count = _COUNT.get()
    if count is not None:
        count.add(finished, token)


class ProgressLine:
    """Steps, tokens a second, time left, and the newest accuracy or loss, on standard error.

    Args:
        total: steps of the run.
        done: steps that were finished before this process.
        quiet: True: nothing; else a live line on a terminal, and elsewhere a plain line for every
            tenth of the steps or 30 s.
    """

    def __init__(self, *, total: int, done: int, quiet: bool | None) -> None:
        # as much of a file as rich uses
        console = Console(file=cast(IO[str], standard_error()))
        self._total, self._start = total, done
        self._live = quiet is not True and console.is_terminal
        self._plain = quiet is not True and not self._live
        self._began = self._printed = time.monotonic()
        self._shown, self._tokens, self._accuracy = done, 0.0, ""
        self._bar = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not self._live,
        )
        self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the live line down; again is fine."""
        self._bar.stop()

    def evaluated(self, text: str) -> None:
        """Keep the newest accuracy for the line."""
        self._accuracy = text

    def advance(self, step: int, metrics: Mapping[str, Number | None]) -> None:
        """One step is finished."""
        self._tokens += metrics.get("tokens/generated", metrics.get("tokens/trained")) or 0.0
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        left = seconds / max(step - self._start, 1) * (self._total - step)
        parts = [f"{self._tokens / seconds:,.0f} tokens/s", *self._newest(metrics)]
        parts.append(f"{duration(left)} left" if step < self._total else duration(seconds))
        text = "  ".join(parts)
        self._bar.update(self._task, completed=step, description=text)
        due = step - self._shown >= _PLAIN_SHARE * self._total
        due = due or now - self._printed >= _PLAIN_SECONDS or step == self._total
        if self._plain and due:
            self._shown, self._printed = step, now
            say(f"step {step}/{self._total}  {text}")

    def _newest(self, metrics: Mapping[str, Number | None]) -> list[str]:
        name = "reward/mean" if "reward/mean" in metrics else "loss"
        value = metrics.get(name)
        known = value is not None and math.isfinite(value)
        shown = f"{name.partition('/')[0]} {value:.3f}" if known else ""
        return [part for part in (shown, self._accuracy) if part]


def duration(seconds: Number) -> str:
    """`12 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
