"""Does the training verifier reject right answers, or the reference solutions?

Of sampled answers only a stronger check can say:

    recall      share of the truly right answers that the verifier accepts
    precision   share of the accepted answers that are truly right

Answers to one problem share its fate, and a problem with many answers that count weighs more. So
each proportion has Wilson's interval for (sum m)^2 / sum m^2 outcomes, m the answers of a problem
that enter (Kish 1965): right when a problem's answers all fare alike, wide otherwise. Precision
needs no right answer: a verifier that accepts wrong ones alone is lax.

    solutions/accepted      share of the reference solutions, which SFT would learn, that it accepts
    solutions/accepted/true the same by a stronger check, where there is one

Of the training problems that are measured, up to 64 with a solution, spread evenly. A missing score
stays out: it is no rejection. Where most are surely rejected a model that has learnt them perfectly
would score next to nothing, and groups that are all wrong say nothing of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rekindle.records import Problem
from rekindle.signals.answers import share_row, verdicts
from rekindle.signals.findings import Advice, Finding, Measurement, Sentences, by_name
from rekindle.signals.reward_signal import CONTROLS, HERO
from rekindle.tasks.task import Grader

BRITTLE = 0.8  # recall; an upper bound below
GRADED = 64  # solutions; programs take seconds each
MOST = 0.5  # accepted; an upper bound below: rejected
NEARLY = 0.9  # accepted; an upper bound below stands in the verdict
RANKS = 0.6  # auc/within_wrong/in_group; hero only with a lower bound above

_SHOWN = 30  # characters of a solution's end
_SAYS = Sentences("verifier")


def verifier_finding(
    accepted: Sequence[float],
    true: Sequence[float],
    problem: Sequence[str],
    *,
    reward: Finding | None = None,
    control: str | None = None,
) -> Finding:
    """The state of a verifier; one entry an answer, nan where a verdict is missing.

    `reward` is the reward model's finding on the same answers, where there is one: hero is
    recommended by its `auc/within_wrong/in_group` alone, and never where the scores are those of a
    `control` ("random", "oracle").
    """
    rows = [
        share_row(
            "recall", accepted, true, problem, "share of truly right answers that it accepts"
        ),
        share_row("precision", true, accepted, problem, "share of accepted answers that are right"),
    ]
    recall, precision = rows
    remedy, against = None, tuple[Advice, ...]()
    if recall.n > 1 and recall.ci_high < BRITTLE:
        name = "brittle"
        remedy, against = _hero(reward, control)
    elif precision.ci_high < BRITTLE:
        name = "lax"
    elif recall.n < 2:
        name = "unclear"
    else:
        sound = recall.ci_low > BRITTLE and precision.ci_low > BRITTLE
        name = "exact" if sound else "unsettled"
    shown = f"recall {recall}, precision {precision}"
    return _SAYS.finding(name, rows, remedy=remedy, against=against, shown=shown)


def _hero(reward: Finding | None, control: str | None) -> tuple[Advice | None, tuple[Advice, ...]]:
    if reward is None:
        return None, (_SAYS.advice("no-reward"),)
    if control is not None:
        return None, (_SAYS.advice("control", control=control, fault=CONTROLS[control]),)
    inside = by_name(reward.rows)[HERO]
    if inside.ci_low > RANKS:
        return _SAYS.advice("hero", inside=inside), ()
    return None, (_SAYS.advice("no-ranking", inside=inside, ranks=RANKS),)


# --- reference solutions


class Solutions(NamedTuple):
    """What was graded; `true` is None without a stronger check, `example` "" without a
    rejection."""

    accepted: Measurement
    true: Measurement | None
    example: str

    @property
    def rejected(self) -> bool:
        """Whether most are surely not accepted."""
        return self.accepted.ci_high < MOST

    def rows(self) -> list[Measurement]:
        """The rows of a table."""
        return [self.accepted] if self.true is None else [self.accepted, self.true]

    def shown(self) -> str:
        """The number, as a part of a sentence."""
        return _SAYS.phrase("accepts", accepted=self.accepted)

    def mend(self) -> Advice:
        """What is likely to be wrong, and what to do about it."""
        if self.true is not None and self.true.ci_low > MOST:
            name = "verifier-fault"
        elif self.true is not None and self.true.ci_high < MOST:
            name = "solutions-fault"
        else:
            name = "either-fault"
        compare = _SAYS.phrase("compare", example=self.example)
        fault = _SAYS.phrase(name, true=self.true, compare=compare)
        return _SAYS.advice("mend", shown=self.shown(), fault=fault)

    def unlearnt(self, method: str) -> Advice:
        """Why a method that learns the solutions does not fit."""
        return Advice(method, f"{self.shown()}: a model that has learnt them all scores no more")


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
    accepted, true, _ = verdicts(grader, solved, check=check)
    meaning = "share of reference solutions that the training verifier accepts"
    stronger = None
    if true is not None:
        more = "the same, by the stronger check"
        stronger = share_row("solutions/accepted/true", true, every, ids, more)
    rejected = [pair for pair, value in zip(solved, accepted, strict=True) if value <= 0.5]
    example = _example(*rejected[0]) if rejected else ""
    row = share_row("solutions/accepted", accepted, every, ids, meaning)
    return Solutions(row, stronger, example)


def with_solutions(finding: Finding, solutions: Solutions) -> Finding:
    """SFT's finding, and that its signal is none where the verifier rejects what it would learn."""
    rows = [*finding.rows, *solutions.rows()]
    shown = solutions.shown()
    if not solutions.rejected:
        verdict = finding.verdict
        if solutions.accepted.ci_high < NEARLY:
            verdict += f" {_SAYS.phrase('caution', shown=shown, example=solutions.example)}"
        return finding._replace(rows=rows, verdict=verdict)
    verdict = _SAYS.phrase("learns-rejected", shown=shown)
    mass = by_name(rows).get("mass/non_target")
    if mass is not None:
        verdict += f" {_SAYS.phrase('mass-left', mass=mass)}"
    against = (solutions.unlearnt("sft"), solutions.unlearnt("wmss"))
    return Finding(finding.signal, "rejected", "out", verdict, rows, solutions.mend(), against)


def _example(problem: Problem, solution: str) -> str:
    end = solution.strip()
    end = repr(end) if len(end) <= _SHOWN else f"...{end[-_SHOWN:]!r}"
    checked = "" if problem.answer is None else f", its answer is {problem.answer!r}"
    return f"that of problem '{problem.id}' ends {end}{checked}"
