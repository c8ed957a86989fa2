"""A run directory as data for a page, whatever state the run was left in.

A run that was killed, has not been evaluated yet or lost a file is still worth looking at: what is
missing or broken becomes a sentence in `RunData.notes`. Only a directory that is no run is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rekindle.errors import ConfigError, RunDirectoryError
from rekindle.files import explained_io
from rekindle.report.reading import read_object, read_rows
from rekindle.report.samples import Sample, number, read_sample
from rekindle.report.stages import Pair, Stage, read_pairs, read_stages
from rekindle.study.analyse.run_times import PARTS, TIMES, times_of
from rekindle.study.store.layout import SPENT

MARKS = ("manifest.json", "config.yaml", "metrics.jsonl")
_EVAL_NAME = re.compile(r"step-(\d+)\.json")
_LONGEST_TEXT = 200_000  # characters of config.yaml shown


class Metric(NamedTuple):
    """A number with its 95 % interval and the count behind it; None is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation file, checked as far as the page needs it.

    `metrics` holds pass@1 and the like over all problems, `levels` the same per level, `counts` the
    problems of each level; `raw` is the file itself, for the paired comparison. `asked` is a hash
    of the problems' ids in their order; `n_runs` the number of runs that it is a mean over.
    """

    step: int
    path: Path
    raw: Mapping[str, Any]
    task: str
    split: str
    n_problems: int
    n_samples: int
    metrics: Mapping[str, Metric]
    levels: Mapping[str, Mapping[str, Metric]]
    counts: Mapping[str, int]
    asked: str = ""
    n_runs: int = 1

    def at(self, level: str | None) -> Mapping[str, Metric]:
        """The metrics of a level, or of all problems for None; empty when it was not evaluated."""
        return self.metrics if level is None else self.levels.get(level, {})

    def problems_at(self, level: str | None) -> int:
        """How many problems a level has here."""
        return self.n_problems if level is None else self.counts.get(level, 0)


@dataclass(frozen=True)
class RunData:
    """What one run directory holds."""

    name: str
    path: Path
    config: Mapping[str, Any]
    config_text: str
    manifest: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    samples: Sequence[Sample]
    evaluations: Sequence[Evaluation]
    notes: Sequence[str] = field(default_factory=tuple)
    rounds: Sequence[Mapping[str, Any]] = ()  # of self-rewarding: one row a round
    stages: Sequence[Stage] = ()  # of multi-stage methods: those that made rows
    pairs: Sequence[Pair] = ()
    members: Sequence[RunData] = ()  # of an arm of a study: the runs that it is the mean of
    times: Mapping[str, float] | None = None  # seconds by part; None: the log was thinned
    spent: Mapping[str, Any] = field(default_factory=dict)  # of a thinned log, what the whole said

    @property
    def method(self) -> str:
        """The recipe's method, or what can be said instead."""
        return str(self.config.get("method") or "unknown method")

    @property
    def seed(self) -> str:
        """The seed of the run, as recorded."""
        found = self.config.get("seed", self.manifest.get("seed"))
        return "not recorded" if found is None else str(found)

    @property
    def command(self) -> str:
        """The command that made the run; empty when it was not recorded."""
        found = self.manifest.get("command")
        return found if isinstance(found, str) else ""

    @property
    def steps_done(self) -> int:
        """The last step with a metrics row."""
        return max((int(row["step"]) for row in self.rows), default=0)

    @property
    def steps_planned(self) -> int | None:
        """The number of steps that the recipe asks for."""
        planned = number(self.section("optim").get("steps"))
        return None if planned is None else int(planned)

    @property
    def before(self) -> Evaluation | None:
        """The evaluation before the first step."""
        return next((e for e in self.evaluations if e.step == 0), None)

    @property
    def after(self) -> Evaluation | None:
        """The newest evaluation after the first step."""
        return next((e for e in reversed(self.evaluations) if e.step > 0), None)

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the recipe; empty when it is not there."""
        found = self.config.get(name)
        return found if isinstance(found, Mapping) else {}


def load_runs(paths: Sequence[Path]) -> list[RunData]:
    """Every run directory, under names that differ.

    Raises:
        ConfigError: none is given, or one is given twice.
        RunDirectoryError: one is missing or is no run directory.
    """
    if not paths:
        raise ConfigError("no run directory is given", wanted="at least one", fix="name a run")
    places = [Path(path).resolve() for path in paths]
    for place in places:
        if places.count(place) > 1:
            raise ConfigError(
                "a run directory is given twice",
                got=str(place),
                why="its rows would be counted as two runs",
                fix="name it once",
            )
    runs = [load_run(Path(path)) for path in paths]
    names = _distinct_names(places)
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def load_run(path: Path, *, texts: bool = True, outcomes: bool = True) -> RunData:
    """One run directory; see the module's docstring for what is tolerated.

    Args:
        path: the directory.
        texts: read rollouts and pairs too.
        outcomes: keep each evaluation's outcomes, which a paired comparison needs.
    """
    with explained_io(path, "reading"):
        _refuse_other_directories(path)
        return _load(path, texts=texts, outcomes=outcomes)


def _load(path: Path, *, texts: bool, outcomes: bool) -> RunData:
    notes: list[str] = []
    config, config_text = _read_config(path / "config.yaml", notes)
    rows = _read_metrics(path / "metrics.jsonl", notes)
    run = RunData(
        name=path.resolve().name,
        path=path,
        config=config,
        config_text=config_text,
        manifest=read_object(path / "manifest.json", notes, "where and how it was run is unknown"),
        rows=rows,
        samples=_read_samples(path / "samples.jsonl", notes) if texts else [],
        evaluations=_read_evaluations(
            path, rows[-1]["step"] if rows else 0, notes, outcomes=outcomes
        ),
        rounds=_read_rounds(path / "stages" / "rounds.jsonl", notes),
        stages=read_stages(path, notes),
        pairs=read_pairs(path, config, notes) if texts else [],
        times=_read_times(path, rows, notes),
        spent=read_object(path / SPENT, notes, "") if (path / SPENT).is_file() else {},
    )
    return replace(run, notes=(*_state_notes(run), *notes))


def _refuse_other_directories(path: Path) -> None:
    wanted = "a directory that `rekindle train` wrote, with " + ", ".join(MARKS)
    if not path.exists():
        raise RunDirectoryError(f"{path} does not exist", wanted=wanted, fix="check the path")
    if not path.is_dir():
        raise RunDirectoryError(f"{path} is a file", wanted=wanted, fix="name its directory")
    if any((path / mark).is_file() for mark in MARKS):
        return
    inside = sorted(p for p in path.iterdir() if p.is_dir() and _looks_like_run(p))
    found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "an empty directory"
    raise RunDirectoryError(
        f"{path} is not a run directory",
        got=found,
        wanted=wanted,
        fix=f"there are runs inside it: rekindle report {' '.join(map(str, inside[:4]))}"
        if inside
        else "name the directory that was given to --out",
    )


def _looks_like_run(path: Path) -> bool:
    return any((path / mark).is_file() for mark in MARKS)


def _distinct_names(places: Sequence[Path]) -> list[str]:
    """Directory names, with as many parents as it takes to tell the runs apart."""
    for parts in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-parts:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]


def _read_config(path: Path, notes: list[str]) -> tuple[Mapping[str, Any], str]:
    if not path.is_file():
        notes.append("config.yaml is missing: the settings are unknown.")
        return {}, ""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if len(text) > _LONGEST_TEXT:
        notes.append(f"config.yaml is shown up to its first {_LONGEST_TEXT:,} characters.")
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: dates that are none
        notes.append("config.yaml is not valid YAML: it is shown as it is, but was not read.")
        tree = {}
    if not isinstance(tree, dict):
        tree = {}
    return tree, text[:_LONGEST_TEXT]


def _read_metrics(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        notes.append("metrics.jsonl is missing: no step was logged.")
        return []
    by_step: dict[int, dict[str, Any]] = {}
    doubled = 0
    for _, row in read_rows(path, notes):
        step = number(row.get("step"))
        if step is None:
            continue
        doubled += int(step) in by_step
        by_step[int(step)] = {**row, "step": int(step)}
    if doubled:
        notes.append(f"metrics.jsonl has {doubled} step(s) twice; the later row is shown.")
    return [by_step[step] for step in sorted(by_step)]


def _read_times(
    path: Path, rows: Sequence[Mapping[str, Any]], notes: list[str]
) -> dict[str, float] | None:
    if (path / TIMES).is_file():
        found = read_object(path / TIMES, notes, "")
        return {part: number(found.get(part)) or 0.0 for part in PARTS} if found else None
    return None if (path / SPENT).is_file() else times_of(rows)


def _read_rounds(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.exists():  # most methods have no rounds
        return []
    return [row for _, row in read_rows(path, notes) if number(row.get("round")) is not None]


def _read_samples(path: Path, notes: list[str]) -> list[Sample]:
    if not path.is_file():
        return []
    found = []
    unusable = 0
    for line, row in read_rows(path, notes):
        sample = read_sample(line, row)
        if sample is None:
            unusable += 1
        else:
            found.append(sample)
    if unusable:
        notes.append(f"samples.jsonl: {unusable} row(s) without a step or a text left out.")
    return found


def _read_evaluations(
    path: Path, steps_done: int, notes: list[str], *, outcomes: bool
) -> list[Evaluation]:
    found = []
    for file in sorted(path.glob("eval/step-*.json")):
        match = _EVAL_NAME.fullmatch(file.name)
        if match is None:
            continue
        raw = read_object(file, notes, "")
        evaluation = _evaluation(int(match.group(1)), file, raw) if raw else None
        if evaluation is not None:
            found.append(evaluation if outcomes else replace(evaluation, raw={}))
        elif raw:
            notes.append(f"eval/{file.name} is left out: it has no metrics.")
    if not found and (path / "eval.json").is_file():
        raw = read_object(path / "eval.json", notes, "")
        alone = _evaluation(steps_done, path / "eval.json", raw)
        found = [alone] if alone is not None else []
    return sorted(found, key=lambda evaluation: evaluation.step)


def _evaluation(step: int, path: Path, raw: Mapping[str, Any]) -> Evaluation | None:
    metrics = _metrics(raw.get("metrics"))
    if not metrics:
        return None
    blocks = raw.get("levels")
    levels = {
        str(level): block
        for level, block in (blocks if isinstance(blocks, Mapping) else {}).items()
        if isinstance(block, Mapping)
    }
    return Evaluation(
        step=step,
        path=path,
        raw=raw,
        task=str(raw.get("task") or "task"),
        split=str(raw.get("split") or "unknown split"),
        n_problems=int(number(raw.get("n_problems")) or 0),
        n_samples=int(number(raw.get("n_samples")) or 0),
        metrics=metrics,
        levels={level: _metrics(block.get("metrics")) for level, block in levels.items()},
        counts={
            level: int(number(block.get("n_problems")) or 0) for level, block in levels.items()
        },
        asked=_digest_of(raw.get("problems")),
    )


def _digest_of(problems: object) -> str:
    """A short hash of the problems' ids; empty where a file does not name them."""
    if not isinstance(problems, list) or not problems:
        return ""
    ids = [str(item.get("id")) if isinstance(item, Mapping) else "?" for item in problems]
    return hashlib.sha256("\n".join(ids).encode("utf-8", "replace")).hexdigest()[:16]


def _metrics(block: object) -> dict[str, Metric]:
    if not isinstance(block, Mapping):
        return {}
    found = {}
    for name, cell in block.items():
        if isinstance(cell, Mapping):
            n = number(cell.get("n"))
            found[str(name)] = Metric(
                value=number(cell.get("value")),
                low=number(cell.get("ci_low")),
                high=number(cell.get("ci_high")),
                n=None if n is None else int(n),
            )
    return found


def _state_notes(run: RunData) -> list[str]:
    """What the reader must know before the figures: how far the run came, what it never had."""
    notes = []
    done, planned = run.steps_done, run.steps_planned
    ended = run.manifest.get("finished") is not None  # a method may need fewer steps
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
