"""What the files of a run directory say, as frozen values: settings, manifest, logs, evaluations.

Whatever a file holds, reading it gives one of these: what is missing is empty, and what is not a
finite number is None.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import yaml
from pydantic import Field, PlainValidator

from rekindle.engine.rundir import flat
from rekindle.report.reading import (
    Json,
    Lenient,
    PlainText,
    TextByKey,
    WholeNumber,
    number,
    read_model,
    read_rows,
    text_of,
)

_EVAL_NAME = re.compile(r"step-(\d+)\.json")
_LONGEST_TEXT = 200_000  # characters of config.yaml shown
Over = Literal["step", "round"]  # what a row of a log is


class Settings(NamedTuple):
    """config.yaml: the settings that the page speaks of, and all of them.

    Attributes:
        method, seed, model, task: as they are written; "" where there is none.
        levels: of the task; empty: all.
        steps: that were asked for.
        pairs_file: from which the method's section takes its pairs.
        flat: every setting, `section.key` -> value on one line.
        text: the file itself.
    """

    method: str = ""
    seed: str = ""
    model: str = ""
    task: str = ""
    levels: tuple[str, ...] = ()
    steps: int | None = None
    pairs_file: str = ""
    flat: Mapping[str, str] = {}
    text: str = ""


def read_settings(path: Path, notes: list[str]) -> Settings:
    """config.yaml; without settings, and with a note, where it is missing or no YAML."""
    if not path.is_file():
        notes.append("config.yaml is missing: the settings are unknown.")
        return Settings()
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if len(text) > _LONGEST_TEXT:
        notes.append(f"config.yaml is shown up to its first {_LONGEST_TEXT:,} characters.")
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: dates that are none
        notes.append("config.yaml is not valid YAML: it is shown as it is, but was not read.")
        tree = {}
    return _settings(tree if isinstance(tree, dict) else {}, text[:_LONGEST_TEXT])


def _settings(tree: Mapping[str, Json], text: str) -> Settings:
    def at(section: str, key: str) -> Json:
        block = tree.get(section)
        return block.get(key) if isinstance(block, Mapping) else None

    method, levels, steps = tree.get("method"), at("task", "levels"), number(at("optim", "steps"))
    pairs_file = at(str(method), "pairs")
    return Settings(
        method=str(method or ""),
        seed="" if tree.get("seed") is None else str(tree["seed"]),
        model=str(at("model", "name") or ""),
        task=str(at("task", "name") or ""),
        levels=tuple(map(str, levels)) if isinstance(levels, list) else (),
        steps=None if steps is None else int(steps),
        pairs_file=pairs_file if isinstance(pairs_file, str) else "",
        flat={key: _setting(value) for key, value in flat(tree).items()},
        text=text,
    )


def _setting(value: object) -> str:
    """As YAML would write it on one line."""
    if isinstance(value, list | dict):
        return yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _length(items: object) -> int | None:
    return len(items) if isinstance(items, list) else None


def _sentences(items: object) -> tuple[str, ...]:
    return tuple(str(item) for item in items) if isinstance(items, list | tuple) else ()


class Manifest(Lenient):
    """manifest.json of a run or a study: which code made it, where, and when; "": not recorded."""

    rekindle: PlainText = ""
    commit: PlainText = ""
    dirty: Annotated[bool, PlainValidator(bool)] = False
    diff_sha: PlainText = ""
    command: PlainText = ""
    seed: PlainText = ""
    python: PlainText = ""
    platform: PlainText = ""
    processes: PlainText = ""
    packages: TextByKey = Field(default_factory=dict)
    fingerprints: TextByKey = Field(default_factory=dict)
    started: PlainText = ""
    finished: PlainText = ""
    state_format: PlainText = ""
    sessions: Annotated[int | None, PlainValidator(_length)] = None  # how many
    remarks: Annotated[tuple[str, ...], PlainValidator(_sentences)] = ()  # warnings at its end

    @property
    def code(self) -> str:
        """`0.1.0, commit 1a2b3c4d5e, changed`, as far as it was recorded."""
        changed = ", changed" if self.dirty else ""
        parts = [self.rekindle, f"commit {self.commit[:10]}{changed}" if self.commit else ""]
        return ", ".join(part for part in parts if part) or "not recorded"


class LogRow(NamedTuple):
    """A step of metrics.jsonl, or a round of rounds.jsonl: what was logged there, by key."""

    at: int
    values: Mapping[str, float | None]


def read_log(path: Path, notes: list[str], *, over: Over) -> list[LogRow]:
    """The rows of a log that say their step (or round: `over`), in the order of the file."""

    def parse(_: int, row: Mapping[str, Json]) -> LogRow | None:
        at = number(row.get(over))
        if at is None:
            return None
        return LogRow(int(at), {key: number(row[key]) for key in row if key != over})

    return read_rows(path, notes, parse)


class Metric(NamedTuple):
    """A number with its 95 % interval and the count behind it; None is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int | None


def _metrics(block: object) -> dict[str, Metric]:
    cells = block if isinstance(block, Mapping) else {}
    return {
        str(name): _metric(cell)
        for name, cell in cells.items()
        if isinstance(cell, Mapping | Metric)
    }


def _metric(cell: Mapping[str, Json] | Metric) -> Metric:
    if isinstance(cell, Metric):
        return cell
    value, low, high, n = (number(cell.get(key)) for key in ("value", "ci_low", "ci_high", "n"))
    return Metric(value, low, high, None if n is None else int(n))


class LevelMetrics(Lenient):
    """The metrics of one level, pass@1 and the like, and the number of its problems."""

    metrics: Annotated[Mapping[str, Metric], PlainValidator(_metrics)] = Field(default_factory=dict)
    n_problems: WholeNumber = 0


def _levels(blocks: object) -> dict[str, LevelMetrics]:
    tree = blocks if isinstance(blocks, Mapping) else {}
    return {
        str(level): LevelMetrics.model_validate(block)
        for level, block in tree.items()
        if isinstance(block, Mapping | LevelMetrics)
    }


def _digest_of(problems: object) -> str:
    """A short hash of the problems' ids; empty where a file does not name them."""
    if not isinstance(problems, list) or not problems:
        return ""
    ids = [str(item.get("id")) if isinstance(item, Mapping) else "?" for item in problems]
    return hashlib.sha256("\n".join(ids).encode("utf-8", "replace")).hexdigest()[:16]


class Evaluation(LevelMetrics):
    """One evaluation file, checked as far as the page needs it; its own metrics: all problems.

    `problems` is a hash of the problems' ids in their order; `n_runs` the number of runs that it is
    a mean over. A paired comparison reads the outcomes again, from `path`.
    """

    step: int = 0
    path: Path = Path()
    task: Annotated[str, PlainValidator(lambda v: text_of(v) or "task")] = "task"
    split: Annotated[str, PlainValidator(lambda v: text_of(v) or "unknown split")] = "unknown split"
    n_samples: WholeNumber = 0
    levels: Annotated[Mapping[str, LevelMetrics], PlainValidator(_levels)] = Field(
        default_factory=dict
    )
    problems: Annotated[str, PlainValidator(_digest_of)] = ""
    n_runs: int = 1

    def at(self, level: str | None) -> Mapping[str, Metric]:
        """The metrics of a level, or of all problems for None; empty when it was not evaluated."""
        return self._block(level).metrics

    def problems_at(self, level: str | None) -> int:
        """How many problems a level has here."""
        return self._block(level).n_problems

    def _block(self, level: str | None) -> LevelMetrics:
        return self if level is None else self.levels.get(level, LevelMetrics())


def levels_of(evaluations: Iterable[Evaluation]) -> list[str | None]:
    """None for all problems, then each level where there is more than one."""
    named = list(dict.fromkeys(level for each in evaluations for level in each.levels))
    return [None, *named] if len(named) > 1 else [None]


def read_evaluations(run: Path, steps_done: int, notes: list[str]) -> list[Evaluation]:
    """The evaluations of a run by step; a lone eval.json counts as one after the last step."""
    files = [(int(match[1]), path) for path in sorted(run.glob("eval/step-*.json"))
             if (match := _EVAL_NAME.fullmatch(path.name))]  # fmt: skip
    read = [_evaluation(path, step, notes) for step, path in files]
    if not any(read) and (run / "eval.json").is_file():
        read = [_evaluation(run / "eval.json", steps_done, notes)]
    return sorted((e for e in read if e is not None), key=lambda evaluation: evaluation.step)


def _evaluation(path: Path, step: int, notes: list[str]) -> Evaluation | None:
    evaluation = read_model(path, Evaluation, notes, step=step, path=path, n_runs=1)
    if evaluation is not None and not evaluation.metrics:
        notes.append(f"{path.parent.name}/{path.name} is left out: it has no metrics.")
        return None
    return evaluation
