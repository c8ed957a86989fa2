"""Does the training verifier accept the reference solutions, which SFT would learn?

    solutions/accepted      share that it accepts
    solutions/accepted/true the same by a stronger check, where there is one

Of the training problems that are measured, up to 64 with a solution, spread evenly. A missing score
stays out: it is no rejection. Where most are surely rejected a model that has learnt them perfectly
would score next to nothing, and groups that are all wrong say nothing of the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rekindle.records import Problem
from rekindle.signals.answers import share_row
from rekindle.signals.table import Advice, Finding, Row, said
from rekindle.tasks.task import Grader, grade_all

GRADED = 64  # solutions; programs take seconds each
MOST = 0.5  # accepted; an upper bound below: rejected
NEARLY = 0.9  # accepted; an upper bound below is said
_SHOWN = 30  # characters of a solution's end
_MEND = "a verifier that accepts the solutions, or solutions in its form"


class Solutions(NamedTuple):
    """What was graded; `true` is None without a stronger check, `example` "" without a
    rejection."""

    accepted: Row
    true: Row | None
    example: str

    @property
    def rejected(self) -> bool:
        """Whether most are surely not accepted."""
        return self.accepted.ci_high < MOST

    def rows(self) -> list[Row]:
        """The rows of a table."""
        return [self.accepted] if self.true is None else [self.accepted, self.true]

    def shown(self) -> str:
        """The number, as a part of a sentence."""
        return f"the training verifier accepts {said(self.accepted)} of the reference solutions"

    def caution(self) -> str:
        """A sentence where more than a few are surely not accepted; else nothing."""
        if not self.accepted.ci_high < NEARLY:
            return ""
        return f" But {self.shown()}: look at those that it rejects ({self.example})."

    def mend(self) -> Advice:
        """What to do about it."""
        return Advice(_MEND, f"{self.shown()}: {self._fault()}")

    def unlearnt(self, method: str) -> Advice:
        """Why a method that learns the solutions does not fit."""
        return Advice(method, f"{self.shown()}: a model that has learnt them all scores no more")

    def _fault(self) -> str:
        """What is likely to be wrong, and what to do."""
        compare = f"Compare how a solution ends with its answer ({self.example})"
        if self.true is not None and self.true.ci_low > MOST:
            return (
                f"the stronger check accepts {said(self.true)} of them, so the training verifier "
                "is at fault: set task.verifier to the stronger one, and diagnose again"
            )
        if self.true is not None and self.true.ci_high < MOST:
            return (
                f"the stronger check accepts {said(self.true)} of them, so the solutions are wrong "
                f"or end in another form than the answers. {compare}, mend the rows, and diagnose "
                "again"
            )
        return (
            "either the verifier (task.verifier) rejects what is right, or the solutions end in "
            f"another form than the answers. {compare}, change the one or the other until they are "
            "accepted, and diagnose again"
        )


def grade_solutions(
    grader: Grader, problems: Sequence[Problem], *, check: Grader | None = None
) -> Solutions | None:
    """Grade the reference solutions of some problems; None where no problem has one.

    `check` is a stronger check than `grader`; without one, what the scores' part `true` says.
    """
    solved = [(problem, problem.solution) for problem in problems if problem.solution is not None]
    if not solved:
        return None
    if len(solved) > GRADED:
        solved = [solved[i * len(solved) // GRADED] for i in range(GRADED)]
    ids, every = [problem.id for problem, _ in solved], [1.0] * len(solved)
    scores = grade_all(grader, solved)
    accepted = [_known(score.value) for score in scores]
    if check is None:
        true = [_known(score.parts.get("true")) for score in scores]
    else:
        true = [_known(score.value) for score in grade_all(check, solved)]
    words = "share of reference solutions that the training verifier accepts"
    stronger = None
    if check is not None or not all(math.isnan(value) for value in true):
        more = "the same, by the stronger check"
        stronger = share_row("solutions/accepted/true", true, every, ids, more)
    bad = [asked for asked, value in zip(solved, accepted, strict=True) if value <= 0.5]
    example = _example(*bad[0]) if bad else ""
    row = share_row("solutions/accepted", accepted, every, ids, words)
    return Solutions(row, stronger, example)


def with_solutions(found: Finding, solutions: Solutions) -> Finding:
    """SFT's finding, and that its signal is none where the verifier rejects what it would learn."""
    rows = [*found.rows, *solutions.rows()]
    if not solutions.rejected:
        return found._replace(rows=rows, verdict=found.verdict + solutions.caution())
    shown = solutions.shown()
    mass = next((row for row in rows if row.name == "mass/non_target"), None)
    left = "" if mass is None else f" That 1 - p is {said(mass)} a token does not change that."
    words = f"SFT on these solutions would learn what the verifier rejects: {shown}.{left}"
    against = (solutions.unlearnt("sft"), solutions.unlearnt("wmss"))
    return Finding(found.signal, "rejected", "out", words, rows, solutions.mend(), against)


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _example(problem: Problem, solution: str) -> str:
    end = solution.strip()
    end = repr(end) if len(end) <= _SHOWN else f"...{end[-_SHOWN:]!r}"
    checked = "" if problem.answer is None else f", its answer is {problem.answer!r}"
    return f"that of problem '{problem.id}' ends {end}{checked}"
