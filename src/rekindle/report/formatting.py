"""Numbers as the page writes them (units, intervals, counts, or `undefined`); lists and groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from rekindle.report.run_files import Metric

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
UNDEFINED = "undefined"
MINUS = "\N{MINUS SIGN}"


def percent(value: float | None, *, unit: bool = True) -> str:
    """A share as `41.2 %`."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return f"{100 * value:.1f}".replace("-", MINUS) + (" %" if unit else "")


def estimate(metric: Metric | None, *, name: str = "") -> str:
    """A share with its interval and count: `41.2 % [38.0, 44.6], n = 300`; in nats for `nll`."""
    if metric is None or metric.value is None:
        return UNDEFINED
    interval = "(no interval)"
    if metric.low is not None and metric.high is not None:
        ends = (amount(name, end).split(" ")[0] for end in (metric.low, metric.high))
        interval = f"[{', '.join(ends)}]"
    shown = f"{amount(name, metric.value)} {interval}"
    return shown if metric.n is None else f"{shown}, n = {metric.n:,}"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, signed: `+12.4`."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    shown = f"{100 * value:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown.replace("-", MINUS)


def in_nats(metric: str) -> bool:
    """Whether a metric is a number of nats; every other is a share."""
    return metric.split(" ")[0] == "nll"


def amount(metric: str, value: float | None) -> str:
    """A metric's value in its own unit: nats for `nll`, else a share in percent."""
    if not in_nats(metric):
        return percent(value)
    return UNDEFINED if value is None else f"{value:.3f}".replace("-", MINUS) + " nats"


def difference(metric: str, value: float | None, *, unit: bool = False) -> str:
    """A signed difference of two values of a metric: percentage points, or nats for `nll`."""
    if not in_nats(metric):
        return points(value) + (" points" if unit and value is not None else "")
    if value is None:
        return UNDEFINED
    return f"{value:+.3f}".replace("-", MINUS) + (" nats" if unit else "")


def change_text(metric: str, value: float | None, low: float | None, high: float | None) -> str:
    """A difference with its interval: `+12.4 [+9.1, +15.8]`."""
    if value is None:
        return UNDEFINED
    if low is None or high is None:
        return f"{difference(metric, value)} (no interval)"
    return f"{difference(metric, value)} [{difference(metric, low)}, {difference(metric, high)}]"


def count(value: int | float | None) -> str:
    """A large number with separators, a small one with its decimals: `12,345`, `3.2`."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def duration(seconds: int | float | None) -> str:
    """Seconds as a person says them: `48 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds is None or not math.isfinite(seconds):
        return UNDEFINED
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def listed(items: Sequence[str], *, most: int | None = None) -> str:
    """`a, b and c`; of more than `most`: `a, b and 3 more`."""
    if most is not None and len(items) > most:
        items = [*items[:most], f"{len(items) - most} more"]
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by their key, keys in the order in which they come first."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def plural(n: int, thing: str) -> str:
    """`1 run`, `3 runs`, `2 run directories`."""
    many = thing.removesuffix("y") + "ies" if thing.endswith("ry") else f"{thing}s"
    return f"{n:,} {thing if n == 1 else many}"


def level_title(level: str | None) -> str:
    """`all levels` or `level 4`."""
    return "all levels" if level is None else f"level {level}"


def nice_step(reach: float) -> float:
    """A round number (1, 2 or 5 times a power of ten) at least `reach`: the end of an axis."""
    if reach <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(reach))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= reach * (1 - 1e-9))
