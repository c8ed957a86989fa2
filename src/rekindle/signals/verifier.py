"""Does the training verifier reject right answers?

Only a stronger check can say. Of sampled answers:

    recall      share of the truly right answers that the verifier accepts
    precision   share of the accepted answers that are truly right

Answers to one problem share its fate, and a problem with many answers that count weighs more. So
each proportion has Wilson's interval for (sum m)^2 / sum m^2 outcomes, m the answers of a problem
that enter (Kish 1965): right when a problem's answers all fare alike, wide otherwise. Precision
needs no right answer: a verifier that accepts wrong ones alone is lax.
"""

from __future__ import annotations

from collections.abc import Sequence

from rekindle.signals.answers import share_row
from rekindle.signals.reward import CONTROLS, HERO
from rekindle.signals.table import Advice, Finding, Row, said

BRITTLE = 0.8  # recall; an upper bound below
RANKS = 0.6  # auc/within_wrong/in_group; hero only with a lower bound above


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
    shown = f"recall {said(recall)}, precision {said(precision)}"
    if recall.n < 2 and precision.ci_high < BRITTLE:
        return _lax(shown, rows)
    if recall.n < 2:
        words = f"Too few truly right answers to say what the verifier does with them: {shown}."
        return Finding("verifier", "unclear", "between", words, rows)
    if recall.ci_high < BRITTLE:
        words = f"The verifier rejects right answers: {shown}. A mended verifier is worth most."
        remedy, against = _hero(reward, control)
        return Finding("verifier", "brittle", "out", words, rows, remedy, against)
    if precision.ci_high < BRITTLE:
        return _lax(shown, rows)
    if recall.ci_low > BRITTLE and precision.ci_low > BRITTLE:
        return Finding("verifier", "exact", "well", f"The verifier is sound: {shown}.", rows)
    words = f"Whether the verifier is sound is not settled: {shown}."
    return Finding("verifier", "unsettled", "between", words, rows)


def _lax(shown: str, rows: list[Row]) -> Finding:
    words = f"The verifier accepts wrong answers: {shown}. A stricter one is worth most."
    return Finding("verifier", "lax", "out", words, rows)


def _hero(reward: Finding | None, control: str | None) -> tuple[Advice | None, tuple[Advice, ...]]:
    if reward is None:
        why = (
            "no reward model was measured; train one with `rekindle reward train --model M "
            "--task T --out DIR`, then --set reward.model=DIR/final"
        )
        return None, (Advice("hero", why),)
    if control is not None:
        why = f"its scores are those of a control (reward.source: {control}): {CONTROLS[control]}"
        return None, (Advice("hero", why),)
    inside = next(row for row in reward.rows if row.name == HERO)
    if inside.ci_low > RANKS:
        why = (
            f"among a problem's rejected answers the reward model puts right ones first (AUC "
            f"{said(inside)}). On ten testbed bases, 8 seeds each, hero gained 0.01 to 0.03 on its "
            "verifier where that was 0.68 or more, -0.01 to 0.01 below; on five of them a naive "
            "blend of the two gained as much (docs/evidence.md): the study has the verifier alone, "
            "that blend and random scores beside it"
        )
        return Advice("hero", why), ()
    why = (
        f"among a problem's rejected answers the reward model's AUC is {said(inside)}; what hero "
        f"ranks there needs a lower bound above {RANKS:g}"
    )
    return None, (Advice("hero", why),)
