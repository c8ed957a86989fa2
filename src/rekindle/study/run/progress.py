"""What a study prints: its plan, then a table on a terminal, or a line a run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table as Grid

from rekindle.engine.progress import say
from rekindle.study.plan.study_file import PlannedRun, Preparation, Study
from rekindle.study.run.jobs import Outcome
from rekindle.study.run.preflight import detectable, short_of_budget

_SIGNS = {"finished": "done", "failed": "FAILED", "stopped": "stopped", "lost": "worker lost"}


def announce(study: Study, runs: Sequence[PlannedRun], preparations: Sequence[Preparation]) -> None:
    """Print what will be run, what was declared, and what can be known of it in advance."""
    primary, first = study.primary, study.pairs()[0]
    level = f" at level {primary.level}" if primary.level is not None else ""
    before = f", after {len(preparations)} preparations" if preparations else ""
    say(
        f"{study.study}: {len(study.arms)} arms x {len(study.seeds)} seeds x "
        f"{len(study.bases)} base models = {len(runs)} runs{before}"
    )
    say(
        f"declared: {primary.metric}{level} of {first.arm} against {first.baseline}; "
        f"hash {study.declared_hash()[:12]}"
    )
    for line in [detectable(study, runs), *short_of_budget(study, runs)]:
        say(line)


class Table:
    """Call `started`, `ended` and `refresh` as things happen, while it is `drawn`."""

    def __init__(
        self, runs: Sequence[PlannedRun], before: Sequence[Preparation], *, quiet: bool
    ) -> None:
        self._names = {run.out: f"{run.arm} {run.base} seed {run.seed}" for run in runs}
        self._names |= {item.out: f"{item.name} for {item.base}" for item in before}
        self._groups: dict[str, list[Path]] = {}
        for item in before:
            self._groups.setdefault(item.name, []).append(item.out)
        for run in runs:
            self._groups.setdefault(run.arm, []).append(run.out)
        self._steps = {run.out: run.recipe.shared.optim.steps for run in runs}
        self._began = time.monotonic()
        self._quiet = quiet
        console = Console(stderr=True)
        live = console.is_terminal and not quiet
        self._live = Live(console=console, refresh_per_second=2) if live else None

    def drawn(self) -> AbstractContextManager[object]:
        """The block in which the table is on the terminal, if there is one."""
        return self._live or nullcontext()

    def started(self, place: Path) -> None:
        """A job was given to a worker."""
        if self._live is None and not self._quiet:
            say(f"{self._minutes()}  starts   {self._names[place]}")

    def ended(self, outcome: Outcome) -> None:
        """A job ended; a failure is printed with its reason."""
        if self._quiet:
            return
        sign = _SIGNS[outcome.ending]
        if self._live is None or outcome.ending in ("failed", "lost"):
            why = f": {outcome.text}" if outcome.text else ""
            say(
                f"{self._minutes()}  {sign:<8} {self._names[outcome.job.out]} "
                f"({outcome.seconds:.0f} s){why}"
            )

    def refresh(
        self, *, done: Collection[Path], failed: Mapping[Path, str], running: Collection[Path]
    ) -> None:
        """Draw the table again."""
        if self._live is None:
            return
        grid = Grid("arm", "finished", "running", "failed", title=self._minutes())
        for name, places in self._groups.items():
            at = [f"{_steps_of(p)}/{self._steps.get(p, '?')}" for p in places if p in running]
            grid.add_row(
                name,
                f"{sum(p in done for p in places)}/{len(places)}",
                ", ".join(at),
                str(sum(p in failed for p in places) or ""),
            )
        self._live.update(grid)

    def _minutes(self) -> str:
        spent = time.monotonic() - self._began
        return f"{int(spent // 60):3d}:{int(spent % 60):02d}"


def _steps_of(place: Path) -> int:
    log = place / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0
