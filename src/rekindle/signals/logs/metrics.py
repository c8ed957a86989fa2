"""Metrics without rollouts: what is most often left of a run.

Read are `trainer_state.json` of transformers' trainers, JSON lines of numbers (`metrics.jsonl`,
W&B's `wandb-history.jsonl`, verl's file logger), verl's console (`step:1 - key:value - ...`) and
TensorBoard's event files, the first of them that is there. A `.wandb` file is read by wandb alone.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rekindle.errors import DataError
from rekindle.files import readable
from rekindle.signals.logs.lines import Damage, Row, each_line, number, plain
from rekindle.signals.logs.mapped import LARGEST, natural
from rekindle.signals.logs.record import LogAbout, LoggedRow
from rekindle.signals.logs.trl import read_state

NAME = "metrics"
STEPS = ("step", "_step", "global_step", "training/global_step", "train/global_step")
History = tuple[Mapping[str, float], ...]
_CONSOLE = re.compile(r"\bstep:(\d+) - (.+)")
_VALUE = re.compile(r"^(?:np\.\w+\()?([-+]?(?:\d[\d.eE+-]*|inf|nan))\)?$")
_TEXTS = (".log", ".txt", ".out", ".err")


@dataclass(frozen=True)
class MetricsReader:
    """A log without rows; its metrics are `about.history`."""

    about: LogAbout
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """None."""
        return iter(())


def open_metrics(path: Path) -> MetricsReader | None:
    """The metrics under a path; None: there are none.

    Raises:
        DataError: they are there and cannot be read.
    """
    found = []
    for kind, files_of, read in _SOURCES:
        files = files_of(path)
        history = read(files) if files else ()
        if history:
            found.append((kind, files, history))
    if not found:
        return None
    kind, files, history = found[0]
    notes = [_NO_ROWS]
    if len(found) > 1:
        notes.append(
            f"read from {kind}; there are also {', '.join(other[0] for other in found[1:])}"
        )
    last = max(int(row["step"]) for row in history)
    about = LogAbout(
        NAME, kind, tuple(files), steps_taken=last, notes=tuple(notes), history=history
    )
    return MetricsReader(about)


_NO_ROWS = (
    "no rollout is on disk: which groups had a signal is bounded by the metrics alone, and nothing "
    "can be said of prompts, answers or rewards one by one"
)


# --- files of numbers


def read_objects(path: Path) -> list[Mapping[str, float]]:
    """The numbers of each object of a file.

    Raises:
        DataError: the file cannot be read.
    """
    return list(each_line(path, lambda row, _: _numbers(row), Damage()))


def read_rows(path: Path) -> History:
    """Objects with numbers, each with its `step`; rows without one are left out.

    Raises:
        DataError: the file cannot be read.
    """
    rows = each_line(path, lambda row, _: _stepped(row), Damage())
    return _by_step(row for row in rows if row is not None)


def _stepped(row: Row) -> Mapping[str, float] | None:
    """The numbers of an object, and its step by the name that the trainer has for it."""
    inner = plain(row.get("data"))
    found = {**_numbers(inner if isinstance(inner, dict) else {}), **_numbers(row)}
    steps = (found[name] for name in STEPS if name in found)
    step = next((step for step in steps if abs(step) < LARGEST), None)
    return None if step is None else {**found, "step": step}


def _numbers(row: Row) -> dict[str, float]:
    return {str(key): value for key in row if (value := _number(row.get(key))) is not None}


def _number(value: object) -> float | None:
    """A number; one that is not finite stays, since it is what went wrong."""
    if isinstance(value, float):
        return value
    return {"NaN": math.nan, "Infinity": math.inf}.get(value) if isinstance(value, str) else number(
        value
    )  # fmt: skip


def _by_step(rows: Iterator[Mapping[str, float]]) -> History:
    """Rows of one step are one: trainers log parts of a step apart."""
    merged: dict[float, dict[str, float]] = defaultdict(dict)
    for row in rows:
        merged[row["step"]].update(row)
    return tuple(merged[step] for step in sorted(merged))


# --- which files, and how they are read


def _states(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name == "trainer_state.json" else []
    places = sorted(path.glob("checkpoint-*/trainer_state.json"), key=natural)
    return [*places, *path.glob("trainer_state.json")]


def _read_states(files: Sequence[Path]) -> History:
    place = files[-1].parent
    state = read_state(place.parent if place.name.startswith("checkpoint-") else place)
    return _by_step(iter(state.history))


def _tables(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"), key=natural)
    return [file for file in files if file.suffix == ".jsonl" and _is_metrics(file)]


def _is_metrics(path: Path) -> bool:
    """Whether the first object has a step and else numbers alone."""
    if not path.stat().st_size:
        return False
    with readable(path), open(path, "rb") as file:
        if file.read(1) != b"{":
            return False
    first = next(each_line(path, lambda row, _: {k: plain(row.get(k)) for k in row}, Damage()), {})
    inner = first.get("data")
    values = [*first.values(), *(inner.values() if isinstance(inner, dict) else ())]
    told = all(not isinstance(value, str | list) for value in values)
    return told and any(name in first for name in STEPS) and len(values) > 1


def _read_tables(files: Sequence[Path]) -> History:
    return _by_step(row for file in files for row in read_rows(file))


def _consoles(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.rglob("*"), key=natural)
    return [file for file in files if file.suffix in _TEXTS and file.is_file()]


def _read_consoles(files: Sequence[Path]) -> History:
    return _by_step(row for file in files for row in _console_rows(file))


def _console_rows(path: Path) -> Iterator[Mapping[str, float]]:
    with readable(path), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            found = _CONSOLE.search(line)
            if found is None:
                continue
            pairs = (part.rpartition(":") for part in found[2].strip().split(" - "))
            values = {
                name.strip(): float(value[1])
                for name, _, text in pairs
                if (value := _VALUE.match(text.strip())) is not None
            }
            if values:
                yield {**values, "step": float(found[1])}


def _events(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if "tfevents" in path.name else []
    return sorted(path.rglob("*tfevents*"), key=natural)


def _read_events(files: Sequence[Path]) -> History:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise DataError(
            f"{files[0]} is read by tensorboard",
            got="tensorboard is not installed",
            fix="pip install 'rekindle[trackers]'",
        ) from None
    rows: list[Mapping[str, float]] = []
    for place in dict.fromkeys(file.parent for file in files):
        events = EventAccumulator(str(place), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            rows.extend({tag: e.value, "step": float(e.step)} for e in events.Scalars(tag))
    return _by_step(iter(rows))


_SOURCES: tuple[
    tuple[str, Callable[[Path], list[Path]], Callable[[Sequence[Path]], History]], ...
] = (
    ("trainer_state.json", _states, _read_states),
    ("JSON lines", _tables, _read_tables),
    ("verl's console", _consoles, _read_consoles),
    ("TensorBoard", _events, _read_events),
)
