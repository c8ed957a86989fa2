"""How a run shows that it is alive: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

_PLAIN_EVERY = 0.1  # share of the steps between plain lines


class ProgressLine:
    """Steps, tokens a second, time left, and the newest accuracy or loss, on standard error."""

    def __init__(self, *, total: int, done: int, quiet: bool | None) -> None:
        self._console = Console(stderr=True)
        self._total, self._start = total, done
        self._live = quiet is not True and self._console.is_terminal
        self._plain = quiet is None and not self._live
        self._began, self._tokens, self._accuracy = time.monotonic(), 0.0, ""
        self._shown = done
        self._bar = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def evaluated(self, text: str) -> None:
        """Keep the newest accuracy for the line."""
        self._accuracy = text

    def advance(self, step: int, metrics: dict[str, float]) -> None:
        """One step is finished."""
        self._tokens += metrics.get("tokens/generated", metrics.get("tokens/trained", 0.0))
        seconds = max(time.monotonic() - self._began, 1e-9)
        text = f"{self._tokens / seconds:,.0f} tokens/s  {self._newest(metrics)}"
        self._bar.update(self._task, completed=step, description=text)
        last = step == self._total
        if self._plain and (last or step - self._shown >= _PLAIN_EVERY * self._total):
            self._shown = step
            left = seconds / max(step - self._start, 1) * (self._total - step)
            self._say(f"step {step}/{self._total}  {text}  {left:.0f} s left")

    def _newest(self, metrics: dict[str, float]) -> str:
        if "reward/mean" in metrics:
            return f"reward {metrics['reward/mean']:.3f}  {self._accuracy}"
        return f"loss {metrics.get('loss', float('nan')):.4f}  {self._accuracy}"

    @staticmethod
    def _say(text: str) -> None:
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # a closed pipe must not end a run
            return
