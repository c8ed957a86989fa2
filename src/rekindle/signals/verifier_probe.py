"""What a run's verifier makes of answers whose worth is known: a part of `rewards.probing.probe`.

    probe/false_accepts   share of the wrong answers that it accepts
    probe/lost            share of the right answers that it does not

About 150 texts, the same each time, so that it takes less than two seconds; `rekindle probe` asks
thousands and shows which. It is done for verifiers of ours and for rewards in Python, in this
process as training does, and not for the checks of generated tasks. Of a reward that does not tell
plainly right from plainly wrong answers nothing is said: it may be about something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rekindle.errors import RewardFunctionError
from rekindle.evals.intervals import wilson
from rekindle.records import Problem, Response
from rekindle.rewards.probing.battery import BatteryRow, spread
from rekindle.rewards.probing.degenerate import ANSWERS
from rekindle.rewards.probing.probe import Ask, probe_rows, tell_apart
from rekindle.rewards.probing.probe_report import LOST, report
from rekindle.rewards.probing.reward_process import Outcome
from rekindle.rewards.verifiers.verify import CHECKS
from rekindle.signals.findings import ORDER, Finding, Measurement, Sentences
from rekindle.tasks.own import Rewarded
from rekindle.tasks.rows import Listed
from rekindle.tasks.task import Task

PROBED = 150  # texts

_SAYS = Sentences("verifier")


class Probed(NamedTuple):
    """Two rows of the verifier's table."""

    false_accepts: Measurement
    lost: Measurement

    def finding(self) -> Finding:
        """What follows from the probe alone, where no stronger check has judged the verifier."""
        rows = [self.false_accepts, self.lost]
        name = "probed"
        if self.false_accepts.ci_low > LOST:
            name = "accepts-wrong"
        elif self.lost.ci_low > LOST:
            name = "loses-right"
        elif self.false_accepts.value or self.lost.value > LOST:
            name = "flawed"
        shown = f"wrong answers {self.false_accepts}, right ones lost {self.lost}"
        return _SAYS.finding(name, rows, shown=shown)


def probe_task(task: Task) -> Probed | None:
    """The verifier of a task on known answers; None where it is neither one of ours nor a reward
    in Python, or where it does not tell plain answers apart."""
    answers: tuple[str, ...] = ANSWERS
    if isinstance(task, Listed) and task.verifier in CHECKS:
        answers = (task.verifier,)
        ask = _ask_listed(task)
    elif isinstance(task, Rewarded):
        ask = _ask_reward(task)
    else:
        return None
    plain = tell_apart(ask, answers)
    if not plain.answers:
        return None
    ours = isinstance(task, Listed)
    rows = spread(probe_rows(plain.answers, plain.form, ours=ours), PROBED)
    found = report(task.name, "", plain, rows, ask(rows))
    accepted = wilson(found.false_accepts, found.n - found.right)
    lost = wilson(found.lost, found.right)
    return Probed(
        Measurement("probe/false_accepts", *accepted, "share of known wrong answers accepted"),
        Measurement("probe/lost", *lost, "share of known right answers not accepted"),
    )


def with_probe(findings: Sequence[Finding], probed: Probed | None) -> list[Finding]:
    """The findings, with the rows of the probe in the verifier's; it has one where it had none."""
    if probed is None:
        return list(findings)
    rows = [probed.false_accepts, probed.lost]
    more = [f._replace(rows=[*f.rows, *rows]) if f.signal == "verifier" else f for f in findings]
    if all(finding.signal != "verifier" for finding in more):
        more.append(probed.finding())
    return sorted(more, key=lambda finding: ORDER.index(finding.signal))


def _problem(row: BatteryRow) -> Problem:
    return Problem(id="probe", prompt=row.prompt, answer=row.gold)


def _ask_listed(task: Listed) -> Ask:
    def ask(rows: Sequence[BatteryRow]) -> list[Outcome | None]:
        responses = [Response(_problem(r), r.text, r.cut, r.thought_open) for r in rows]
        return [Outcome(score.value, score.reason) for score in task.grade_responses(responses)]

    return ask


def _ask_reward(task: Rewarded) -> Ask:
    def one(row: BatteryRow) -> Outcome:
        try:
            return Outcome(task.reward.grade(_problem(row), row.text).value)
        except RewardFunctionError as error:
            return Outcome(None, error.what)

    def ask(rows: Sequence[BatteryRow]) -> list[Outcome | None]:
        return [one(row) for row in rows]

    return ask
