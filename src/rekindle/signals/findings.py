"""What every signal's measurement gives: rows with intervals, a state, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rekindle.signals.texts import texts

ORDER = ("sft", "groups", "verifier", "reward", "pairs", "agreement")  # the signals
Health = Literal["well", "between", "out"]

# Shares of groups, of a model's and of a log's alike.
MOST, MIXED = 0.5, 0.3  # all-wrong or all-right: a lower bound above; healthy: of mixed
RARE = 0.1  # mixed groups; with an upper bound below, taking only these leaves next to none
# LENS: lower bounds above. In docs/LOG.md bases with 0.05 of answers right and 0.22 of groups of
# eight mixed lived through it; one with 0.004 right lost what it had.
ENOUGH_RIGHT, ENOUGH_MIXED = 0.02, 0.15


class Measurement(NamedTuple):
    """One line of the table; nan bounds where there is no interval."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    meaning: str

    def __str__(self) -> str:
        """`0.43 [0.40, 0.46]`; without bounds the value alone."""
        if math.isnan(self.value):
            return "undefined"
        if math.isnan(self.ci_low):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.ci_low:.3g}, {self.ci_high:.3g}]"


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
    rows: list[Measurement]
    remedy: Advice | None = None
    against: tuple[Advice, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        columns = ("name", "value", "ci_low", "ci_high", "n", "words")
        return {
            "signal": self.signal,
            "state": self.state,
            "health": self.health,
            "verdict": self.verdict,
            "rows": [dict(zip(columns, row, strict=True)) for row in self.rows],
            "fits": None if self.remedy is None else self.remedy._asdict(),
            "does_not_fit": [advice._asdict() for advice in self.against],
        }


class Sentences(NamedTuple):
    """What is said of a signal: its part of sentences.yaml, with values for the braces."""

    signal: str

    def finding(
        self,
        name: str,
        rows: list[Measurement],
        *,
        remedy: Advice | None = None,
        against: Sequence[Advice] = (),
        **values: object,
    ) -> Finding:
        """The state that a verdict stands for; its text may name the rows."""
        verdict = texts("sentences")[self.signal]["verdicts"][name]
        state, text = verdict.get("state", name), verdict["text"]
        said = text.format(rows=by_name(rows), **values)
        return Finding(self.signal, state, verdict["health"], said, rows, remedy, tuple(against))

    def advice(self, name: str, **values: object) -> Advice:
        """What to do or not to do, and why."""
        entry = texts("sentences")[self.signal]["advice"][name]
        return Advice(entry["what"], entry["why"].format(**values))

    def phrase(self, name: str, **values: object) -> str:
        """A part of a verdict or of an advice."""
        return str(texts("sentences")[self.signal]["phrases"][name]).format(**values)


def by_name(rows: Sequence[Measurement]) -> dict[str, Measurement]:
    """The rows of a table, each under its name."""
    return {row.name: row for row in rows}


def point(name: str, value: float, n: int, meaning: str) -> Measurement:
    """A row without an interval."""
    return Measurement(name, value, math.nan, math.nan, n, meaning)


def conclusion(findings: Sequence[Finding]) -> list[str]:
    """The last lines: what is missing, what fits and what does not, each with its reason."""
    lines = []
    out, between = (
        ", ".join(f"{f.signal} ({f.state})" for f in findings if f.health == health)
        for health in ("out", "between")
    )
    fits = [(f.signal, f.remedy) for f in findings if f.remedy is not None]
    if out:
        lines.append(f"missing: {out}")
    elif between:
        lines.append(f"No signal is missing by these numbers. In between: {between}.")
    elif not fits:
        lines.append("No signal is missing: nothing to change.")
    lines += _advice_lines("fits", fits)
    if out and not fits:
        lines.append("fits: nothing that these numbers support.")
    against = [(f.signal, advice) for f in findings for advice in f.against]
    return lines + _advice_lines("does not fit", against)


def _advice_lines(opening: str, given: Sequence[tuple[str, Advice]]) -> list[str]:
    """One line an advice; what several signals say in the same words is said once."""
    signals: dict[Advice, list[str]] = {}
    for signal, advice in given:
        signals.setdefault(advice, []).append(signal)
    return [
        f"{opening}: {advice.what} ({', '.join(names)}): {advice.why}"
        for advice, names in signals.items()
    ]
