"""Where the time of a run went, by the parts that its log of metrics has.

An archive keeps some rows of a log and these sums of all. Imports nothing heavy, for the report
uses it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from rekindle.files import read_json, read_jsonl
from rekindle.study.store.layout import SPENT

TIMES = "times.json"  # of a run that came from an archive
PARTS = ("sample", "score", "update", "eval", "checkpoint", "other")
IN_STEP = ("sample", "score", "update")


def seconds_of_step(part: Callable[[str], float]) -> float:
    """A step's seconds without its row's evaluation; `part`: the seconds of each part of the row.

    An evaluation is inside the time of the step that it follows; the one before the first step is
    in the first row, beside a step that has no room for it.
    """
    step, evaluation = part("step"), part("eval")
    return step - evaluation if step - sum(map(part, IN_STEP)) >= evaluation else step


def times_of(rows: Iterable[Mapping[str, object]]) -> dict[str, float]:
    """Seconds of each part over all rows; `other`: what steps took beyond their parts."""
    total = dict.fromkeys(PARTS, 0.0)
    for row in rows:
        parts = {part: _seconds(row, part) for part in PARTS if part != "other"}
        step = seconds_of_step(partial(_seconds, row))
        parts["other"] = max(0.0, step - sum(parts[part] for part in IN_STEP))
        for part, seconds in parts.items():
            total[part] += seconds
    return total


def kept_times(place: Path) -> dict[str, float] | None:
    """`times_of` a finished run; None where it came from an archive that did not keep them."""
    if (place / TIMES).exists():
        times: dict[str, float] = read_json(place / TIMES)
        return times
    if (place / SPENT).exists():
        return None
    by_step = {row.get("step"): row for _, row in read_jsonl(place / "metrics.jsonl")}
    return times_of(by_step.values())


def _seconds(row: Mapping[str, object], part: str) -> float:
    value = row.get(f"time/{part}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return float(value)
