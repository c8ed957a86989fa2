"""What a probe found: rows counted by kind, with one that shows each fault.

A false accept is a wrong answer with a score above the middle of plainly right and plainly wrong
ones. A right one that is not above it is lost, also where the reward raised, took too long or gave
no score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rekindle.rewards.probing.battery import BatteryRow
from rekindle.rewards.probing.reward_process import TIMEOUT, Outcome
from rekindle.rewards.verifiers.verify import AS_READ, stated_answer

LOST = 0.05  # share of the right answers; more is a fault
_AROUND = 60  # characters shown on each side of an answer


@dataclass(frozen=True)
class Example:
    """A row that shows what a reward does; `text` is shortened around its answer."""

    fault: str  # false accept, or lost
    gold: str
    text: str
    score: float | None
    reason: str  # why it deserves what it deserves


@dataclass(frozen=True)
class KindCount:
    """The rows of one kind."""

    kind: str
    n: int
    false_accepts: int
    lost: int
    example: Example | None


@dataclass(frozen=True)
class EchoCount:
    """Texts that equal the gold once they are worked out."""

    n: int
    accepted: int


@dataclass(frozen=True)
class AnswersCount:
    """The rows for one kind of golds; `right` of n are right answers."""

    answers: str
    n: int
    right: int
    false_accepts: int
    lost: int


@dataclass(frozen=True)
class ProbeReport:
    """What a reward accepts and loses."""

    reward: str
    signature: str
    answers: tuple[AnswersCount, ...]  # by the kinds of golds that it was asked about
    plain_form: str  # how the plain answers were written, see `degenerate.FORMS`
    accepted_above: float | None  # None where it is blind
    n: int
    right: int  # of n; the others are wrong
    false_accepts: int
    lost: int
    kinds: tuple[KindCount, ...]
    blind: bool  # it scores plainly right and plainly wrong answers alike
    echoes: EchoCount
    raised: int
    timeouts: int
    missing: int  # no score, without an error
    not_asked: int  # after too many that took too long

    @property
    def is_clean(self) -> bool:
        """No false accept, and at most 5 % of the right answers lost."""
        return not (self.blind or self.false_accepts or self.lost > LOST * self.right)


class Plain(NamedTuple):
    """What a reward makes of plain answers: the golds on which it tells right from wrong."""

    form: str
    answers: tuple[str, ...]
    above: float  # the middle of right and wrong scores; nan where it tells none apart


def report(
    reward: str,
    signature: str,
    plain: Plain,
    rows: Sequence[BatteryRow],
    outcomes: Sequence[Outcome | None],
) -> ProbeReport:
    """Count what became of the rows."""
    asked = [(row, out) for row, out in zip(rows, outcomes, strict=False) if out is not None]
    counted = [(row, out) for row, out in asked if not row.echo]
    echoes = [out for row, out in asked if row.echo]
    kinds = dict[str, list[tuple[BatteryRow, Outcome]]]()
    for row, out in counted:
        kinds.setdefault(row.kind, []).append((row, out))
    counts = tuple(_count(kind, kinds[kind], plain.above) for kind in kinds)
    fates = Counter(_fate(out) for _, out in asked)
    return ProbeReport(
        reward=reward,
        signature=signature,
        answers=tuple(_of_answers(name, counted, plain.above) for name in plain.answers),
        plain_form=plain.form,
        accepted_above=plain.above if plain.answers else None,
        n=len(counted),
        right=sum(row.right for row, _ in counted),
        false_accepts=sum(count.false_accepts for count in counts),
        lost=sum(count.lost for count in counts),
        kinds=counts,
        blind=not plain.answers,
        echoes=EchoCount(len(echoes), sum(_is_accepted(out, plain.above) for out in echoes)),
        raised=fates["raised"],
        timeouts=fates["timeout"],
        missing=fates["missing"],
        not_asked=len(outcomes) - len(asked),
    )


def _count(kind: str, pairs: Sequence[tuple[BatteryRow, Outcome]], above: float) -> KindCount:
    """The errors among the rows of a kind; a false accept is shown rather than a loss."""
    wrongly = [(row, out) for row, out in pairs if not row.right and _is_accepted(out, above)]
    lost = [(row, out) for row, out in pairs if row.right and not _is_accepted(out, above)]
    example = None
    if wrongly or lost:
        row, out = (wrongly or lost)[0]
        fault = "false accept" if wrongly else "lost"
        example = Example(fault, row.gold, shortened(row), out.value, row.reason)
    return KindCount(kind, len(pairs), len(wrongly), len(lost), example)


def _of_answers(
    name: str, counted: Sequence[tuple[BatteryRow, Outcome]], above: float
) -> AnswersCount:
    mine = [(row, out) for row, out in counted if row.answers == name]
    total = _count(name, mine, above)
    right = sum(row.right for row, _ in mine)
    return AnswersCount(name, total.n, right, total.false_accepts, total.lost)


def _is_accepted(outcome: Outcome, above: float) -> bool:
    return outcome.value is not None and outcome.value > above


def _fate(outcome: Outcome) -> str:
    if outcome.value is not None:
        return "scored"
    return {None: "missing", TIMEOUT: "timeout"}.get(outcome.raised, "raised")


def shortened(row: BatteryRow) -> str:
    """A row's text around the answer that it states, else around the gold, else its end."""
    settings = AS_READ._replace(cut=row.cut, thought_open=row.thought_open)
    reading = stated_answer(row.answers, row.gold, row.text, settings)
    start, end = reading.start, reading.end
    if not reading.answer:
        start = row.text.rfind(row.gold)
        start = len(row.text) if start < 0 else start
        end = start + len(row.gold)
    first, last = max(0, start - _AROUND), min(len(row.text), end + _AROUND)
    last = min(last, first + 4 * _AROUND)
    before, after = "…" if first else "", "…" if last < len(row.text) else ""
    return f"{before}{row.text[first:last]}{after}"
