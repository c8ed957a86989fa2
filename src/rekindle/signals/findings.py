"""What every signal's measurement gives: rows with intervals, a state, and what follows from it."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from rekindle.evals.intervals import Interval

ORDER = ("sft", "groups", "verifier", "reward", "pairs", "agreement")  # the signals
Health = Literal["well", "between", "out"]


class Row(NamedTuple):
    """One line of the table; nan bounds where there is no interval."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    words: str


class Advice(NamedTuple):
    """A method, or what to do instead of one, and the numbers that speak for it or against it."""

    what: str
    why: str


class Finding(NamedTuple):
    """The state of one signal.

    `health`: out (the signal is missing), well (it is there), between (neither is borne out by the
    intervals). `remedy` is what the numbers support, None where they support nothing; `against`
    what they speak against.
    """

    signal: str
    state: str
    health: Health
    verdict: str
    rows: list[Row]
    remedy: Advice | None = None
    against: tuple[Advice, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "signal": self.signal,
            "state": self.state,
            "health": self.health,
            "verdict": self.verdict,
            "rows": [row._asdict() for row in self.rows],
            "fits": None if self.remedy is None else self.remedy._asdict(),
            "does_not_fit": [advice._asdict() for advice in self.against],
        }


def row_of(name: str, found: Interval, words: str) -> Row:
    """A row of an interval."""
    return Row(name, found.value, found.ci_low, found.ci_high, found.n, words)


def point(name: str, value: float, n: int, words: str) -> Row:
    """A row without an interval."""
    return Row(name, value, math.nan, math.nan, n, words)


def said(row: Row) -> str:
    """`0.43 [0.40, 0.46]`; without bounds the value alone."""
    if math.isnan(row.value):
        return "undefined"
    if math.isnan(row.ci_low):
        return f"{row.value:.3g}"
    return f"{row.value:.3g} [{row.ci_low:.3g}, {row.ci_high:.3g}]"


def closing(findings: list[Finding]) -> list[str]:
    """The last lines: what is missing, what fits and what does not, each with its reason."""
    lines = []
    out = [f"{found.signal} ({found.state})" for found in findings if found.health == "out"]
    between = [f"{found.signal} ({found.state})" for found in findings if found.health == "between"]
    fits = [(found.signal, found.remedy) for found in findings if found.remedy is not None]
    if out:
        lines.append(f"missing: {', '.join(out)}")
    elif between:
        lines.append(f"No signal is missing by these numbers. In between: {', '.join(between)}.")
    elif not fits:
        lines.append("No signal is missing: nothing to change.")
    lines += _lines("fits", fits)
    if out and not fits:
        lines.append("fits: nothing that these numbers support.")
    against = [(found.signal, advice) for found in findings for advice in found.against]
    return lines + _lines("does not fit", against)


def _lines(opening: str, given: list[tuple[str, Advice]]) -> list[str]:
    """One line an advice; what several signals say in the same words is said once."""
    signals: dict[Advice, list[str]] = {}
    for signal, advice in given:
        signals.setdefault(advice, []).append(signal)
    return [
        f"{opening}: {advice.what} ({', '.join(names)}): {advice.why}"
        for advice, names in signals.items()
    ]
