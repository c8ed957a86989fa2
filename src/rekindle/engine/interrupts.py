"""SIGTERM and SIGINT: leave at a place from which the run can go on."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, MethodType

from rekindle.errors import EXIT_RESUMABLE

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupts:
    """Handlers that are there between `install` and `restore`, in the main thread only.

    While `deferred` (inside a step) a signal sets `requested`, and whoever runs the steps saves and
    leaves; a second SIGINT raises `KeyboardInterrupt`. Otherwise there is nothing to save: the
    process leaves at once with `errors.EXIT_RESUMABLE`.
    """

    def __init__(self) -> None:
        self.requested = False
        self.deferred = False
        self._before: dict[signal.Signals, _Handler] = {}

    def install(self) -> bool:
        """Take the signals; False where that is impossible or was done already."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return False
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return True

    def restore(self) -> None:
        """Give the signals back to whoever had them; again is fine."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def pass_on(self) -> None:
        """Give a signal that came too late to stop this run (it was over) to the run around it."""
        for number, handler in self._before.items():
            outer = handler.__self__ if isinstance(handler, MethodType) else None
            if self.requested and isinstance(outer, Interrupts):
                self.restore()
                outer._on_signal(number, None)
                return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self.deferred:
            _note(f"{name}: stopped; go on with --resume\n")
            raise SystemExit(EXIT_RESUMABLE)
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            _note(f"{name}: a checkpoint follows after this step (Ctrl-C: stop at once)\n")
        self.requested = True


def _note(text: str) -> None:
    # A handler may run in the middle of a print, where sys.stderr refuses to be entered again.
    with suppress(OSError):
        os.write(2, text.encode())
