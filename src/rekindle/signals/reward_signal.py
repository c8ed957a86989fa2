"""Does the reward model put right answers above wrong ones, where a method would use it?

    auc                         over all answers
    auc/in_group                over pairs of answers to one problem: what group-relative methods
                                see, and what the state rests on
    auc/within_wrong            among the answers that the training verifier rejects
    auc/within_wrong/in_group   the same over pairs of one problem's answers: what hero ranks
    auc/within_right            among those that it accepts

against the stronger check where there is one, else against the verifier; those within need a
stronger check, for by the verifier alone there is nothing to tell apart in them. Intervals:
bootstrap over problems. A model that knows which problems are easy, and nothing of their answers,
has an AUC over all answers and none in a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rekindle.evals.ranking import auc_interval
from rekindle.loops.rollouts import known
from rekindle.rewards.reward_model import Scorer
from rekindle.signals.answers import Answers
from rekindle.signals.findings import Advice, Finding, Measurement, Sentences, by_name, point

CHANCE, USELESS, USEFUL = 0.5, 0.6, 0.7
CONTROLS = {
    "random": "it knows nothing, and what seems otherwise is chance",
    "oracle": "it leaks the true check, which no reward model does",
}
_SAYS = Sentences("reward")
HERO = "auc/within_wrong/in_group"  # it normalises a prompt's answers, stratum by stratum


def measure_reward(scorer: Scorer, answers: Answers, *, control: str | None = None) -> Finding:
    """Score the answers and judge the scores; the verdict names a `control`.

    Raises:
        ServerUnavailableError: the source of the scores cannot be reached.
    """
    scores = scorer.score(answers.pairs)
    values = [known(score.value) for score in scores]
    true = answers.accepted if answers.true is None else answers.true
    finding = reward_finding(values, true, answers.accepted, answers.ids())
    return finding if control is None else as_control(finding, control)


def as_control(finding: Finding, control: str) -> Finding:
    """The finding of a control: one that knows the truth is no reward model that is sound."""
    said = _SAYS.phrase("control", control=control, fault=CONTROLS[control])
    verdict = f"{finding.verdict} {said}"
    if control == "oracle":
        return finding._replace(state="control", health="between", verdict=verdict)
    return finding._replace(verdict=verdict)


def reward_finding(
    score: Sequence[float],
    right: Sequence[float],
    accepted: Sequence[float],
    problem: Sequence[str],
) -> Finding:
    """The state of a reward model; one entry an answer, nan where missing."""
    everything = [True] * len(score)
    rejected = [value <= 0.5 for value in accepted]  # nan: in neither
    passed = [value > 0.5 for value in accepted]

    def over(name: str, kept: Sequence[bool], meaning: str, *, within: bool = False) -> Measurement:
        rows = [i for i, keep in enumerate(kept) if keep]
        interval = auc_interval(
            [score[i] for i in rows],
            [right[i] for i in rows],
            [problem[i] for i in rows],
            within=within,
        )
        return Measurement(name, *interval, meaning)

    lost = sum(math.isnan(value) for value in score)
    rows = [
        over("auc", everything, "P(right above wrong), all answers"),
        over("auc/in_group", everything, "within one problem's answers", within=True),
        over("auc/within_wrong", rejected, "among answers that the verifier rejects"),
        over(HERO, rejected, "the same, within one problem's answers", within=True),
        over("auc/within_right", passed, "among answers that it accepts"),
        point("unscored", lost, len(score), "answers without a score of the reward model"),
    ]
    grouped, table = rows[1], by_name(rows)
    if math.isnan(grouped.ci_low):
        name = "no-contrast"
    elif grouped.ci_high < CHANCE:
        name = "inverted"
    elif grouped.ci_high < USELESS:
        name = "useless"
    elif grouped.ci_low <= CHANCE:
        name = "chance"
    else:
        name = "useful" if grouped.ci_low > USEFUL else "weak"
    against: tuple[Advice, ...] = ()
    if name in ("inverted", "useless", "chance"):
        why = _SAYS.phrase(name, rows=table)
        against = (Advice("hero", why), Advice("rm_only, naive_blend", f"the same: {why}"))
    return _SAYS.finding(name, rows, against=against, shown=_SAYS.phrase("shown", rows=table))
