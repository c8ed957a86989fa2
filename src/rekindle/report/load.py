"""A run directory as data for a page, whatever state the run was left in.

A run that was killed, has not been evaluated yet or lost a file is still worth looking at: what is
missing or broken becomes a sentence in `RunData.notes`. Only a directory that is no run is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rekindle.errors import ConfigError, RunDirectoryError
from rekindle.files import explained_io
from rekindle.report.reading import read_model, read_numbers, read_rows
from rekindle.report.run_files import (
    Evaluation,
    LogRow,
    Manifest,
    Over,
    Settings,
    read_evaluations,
    read_log,
    read_settings,
)
from rekindle.report.samples import Sample, read_sample
from rekindle.report.stage_records import Stage, TrainedPair, read_pairs, read_stages
from rekindle.study.analyse.run_times import PARTS, TIMES, times_of
from rekindle.study.store.layout import SPENT

MARKS = ("manifest.json", "config.yaml", "metrics.jsonl")


@dataclass(frozen=True)
class RunData:
    """What one run directory holds."""

    name: str
    path: Path
    settings: Settings
    manifest: Manifest
    rows: Sequence[LogRow]
    samples: Sequence[Sample]
    evaluations: Sequence[Evaluation]
    notes: Sequence[str] = field(default_factory=tuple)
    rounds: Sequence[LogRow] = ()  # of self-rewarding
    stages: Sequence[Stage] = ()  # of multi-stage methods: those that made rows
    pairs: Sequence[TrainedPair] = ()
    members: Sequence[RunData] = ()  # of an arm of a study: the runs that it is the mean of
    times: Mapping[str, float] | None = None  # seconds by part; None: the log was thinned
    spent: Mapping[str, float | None] = field(default_factory=dict)  # the whole of a thinned log

    @property
    def method(self) -> str:
        """The recipe's method, or what can be said instead."""
        return self.settings.method or "unknown method"

    @property
    def task(self) -> str:
        """The name of its task, or what can be said instead."""
        return self.settings.task or "its task"

    @property
    def seed(self) -> str:
        """The seed of the run, as recorded."""
        return self.settings.seed or self.manifest.seed or "not recorded"

    @property
    def steps_done(self) -> int:
        """The last step with a metrics row."""
        return max((row.at for row in self.rows), default=0)

    @property
    def before(self) -> Evaluation | None:
        """The evaluation before the first step."""
        return next((e for e in self.evaluations if e.step == 0), None)

    @property
    def after(self) -> Evaluation | None:
        """The newest evaluation after the first step."""
        return next((e for e in reversed(self.evaluations) if e.step > 0), None)

    @property
    def sides(self) -> list[tuple[str, Evaluation]]:
        """("before" | "after", evaluation) as far as there are any."""
        return [(when, e) for when, e in (("before", self.before), ("after", self.after)) if e]

    def log(self, over: Over) -> Sequence[LogRow]:
        """Its steps or its rounds."""
        return self.rows if over == "step" else self.rounds

    def first_logged(self, keys: Sequence[str], over: Over) -> str | None:
        """The first of `keys` that a row has a number of."""
        rows = self.log(over)
        has = (key for key in keys if any(row.values.get(key) is not None for row in rows))
        return next(has, None)


def load_runs(paths: Sequence[Path]) -> list[RunData]:
    """Every run directory, under names that differ.

    Raises:
        ConfigError: none is given, or one is given twice.
        RunDirectoryError: one is missing or is no run directory.
    """
    if not paths:
        raise ConfigError("no run directory is given", wanted="at least one", fix="name a run")
    resolved = [Path(path).resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise ConfigError(
                "a run directory is given twice",
                got=str(path),
                why="its rows would be counted as two runs",
                fix="name it once",
            )
    runs = [load_run(Path(path)) for path in paths]
    names = _distinct_names(resolved)
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def load_run(path: Path, *, texts: bool = True) -> RunData:
    """One run directory; see the module's docstring for what is tolerated.

    Args:
        path: the directory.
        texts: read rollouts and pairs too.
    """
    notes: list[str] = []
    missing = "where and how it was run is unknown"
    rounds = path / "stages" / "rounds.jsonl"
    with explained_io(path, "reading"):
        _refuse_other_directories(path)
        settings = read_settings(path / "config.yaml", notes)
        rows = _read_metrics(path / "metrics.jsonl", notes)
        manifest = read_model(path / "manifest.json", Manifest, notes, missing=missing)
        run = RunData(
            name=path.resolve().name,
            path=path,
            settings=settings,
            manifest=manifest or Manifest(),
            rows=rows,
            samples=_read_samples(path / "samples.jsonl", notes) if texts else [],
            evaluations=read_evaluations(path, rows[-1].at if rows else 0, notes),
            rounds=read_log(rounds, notes, over="round") if rounds.exists() else [],
            stages=read_stages(path, notes),
            pairs=read_pairs(path, settings, notes) if texts else [],
            times=_read_times(path, rows, notes),
            spent=read_numbers(path / SPENT, notes),
        )
    return replace(run, notes=(*_state_notes(run), *notes))


def _refuse_other_directories(path: Path) -> None:
    wanted = "a directory that `rekindle train` wrote, with " + ", ".join(MARKS)
    if not path.exists():
        raise RunDirectoryError(f"{path} does not exist", wanted=wanted, fix="check the path")
    if not path.is_dir():
        raise RunDirectoryError(f"{path} is a file", wanted=wanted, fix="name its directory")
    if _looks_like_run(path):
        return
    inside = sorted(p for p in path.iterdir() if p.is_dir() and _looks_like_run(p))
    raise RunDirectoryError(
        f"{path} is not a run directory",
        got=", ".join(sorted(p.name for p in path.iterdir())[:6]) or "an empty directory",
        wanted=wanted,
        fix=f"there are runs inside it: rekindle report {' '.join(map(str, inside[:4]))}"
        if inside
        else "name the directory that was given to --out",
    )


def _looks_like_run(path: Path) -> bool:
    return any((path / mark).is_file() for mark in MARKS)


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """Directory names, with as many parents as it takes to make them differ."""
    depths = range(1, max(len(path.parts) for path in paths) + 1)
    tries = (["/".join(path.parts[-depth:]) for path in paths] for depth in depths)
    return next(names for names in tries if len(set(names)) == len(names))


def _read_metrics(path: Path, notes: list[str]) -> list[LogRow]:
    if not path.is_file():
        notes.append("metrics.jsonl is missing: no step was logged.")
        return []
    rows = read_log(path, notes, over="step")
    by_step = {row.at: row for row in rows}
    if len(by_step) < len(rows):
        doubled = len(rows) - len(by_step)
        notes.append(f"metrics.jsonl has {doubled} step(s) twice; the later row is shown.")
    return [by_step[step] for step in sorted(by_step)]


def _read_times(path: Path, rows: Sequence[LogRow], notes: list[str]) -> dict[str, float] | None:
    if (path / TIMES).is_file():
        stored = read_numbers(path / TIMES, notes)
        return {part: stored.get(part) or 0.0 for part in PARTS} if stored else None
    return None if (path / SPENT).is_file() else times_of(row.values for row in rows)


def _read_samples(path: Path, notes: list[str]) -> list[Sample]:
    if not path.is_file():
        return []
    read = read_rows(path, notes, lambda line, row: (read_sample(line, row),))
    samples = [sample for (sample,) in read if sample is not None]
    if len(samples) < len(read):
        unusable = len(read) - len(samples)
        notes.append(f"samples.jsonl: {unusable} row(s) without a step or a text left out.")
    return samples


def _state_notes(run: RunData) -> list[str]:
    """What the reader must know before the figures: how far the run came, what it never had."""
    notes = []
    done, planned = run.steps_done, run.settings.steps
    ended = run.manifest.finished  # a method may need fewer steps
    if planned is not None and done < planned and not ended:
        notes.append(f"Unfinished: {done} of {planned} steps are logged.")
    if not run.rows and (run.path / "metrics.jsonl").is_file():
        notes.append("metrics.jsonl has no readable row yet.")
    if not run.evaluations:
        notes.append("Not evaluated yet, so nothing can be said about how good the model is.")
    elif run.before is None:
        notes.append("Not evaluated before the first step, so what training changed is unknown.")
    elif run.after is None:
        notes.append("Not evaluated after the first step yet, so there is nothing to compare.")
    return notes
