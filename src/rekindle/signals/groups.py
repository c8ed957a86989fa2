"""Does a group of answers to one problem have anything to compare?

Group-relative methods learn from groups in which some answers are right and some wrong. Of K
sampled answers to each of P problems:

    accuracy                the mean score
    all_wrong, all_right    shares of the groups in which every score is 0, in which each is 1
    mixed                   share of the others
    .../expected            the same if every problem had the mean accuracy p: (1 - p)^K, p^K
    all_wrong/of_G          share of all-wrong groups of G answers: the mean over problems of
                            C(K - c, G) / C(K, G), c the answers that are not 0; unbiased

A group with a missing score has no class. Observed shares above the expected ones say that problems
differ: some are too hard and some too easy, which a mean accuracy hides.

Axes: P problems, K samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.evals.intervals import Floats, Interval, cluster, wilson
from rekindle.evals.passk import avg_at_k, pass_at_k
from rekindle.signals.table import Advice, Finding, Health, Row, point, row_of, said

MOST, MIXED = 0.5, 0.3  # all-wrong or all-right: a lower bound above; healthy: of mixed groups
RARE = 0.1  # mixed groups; with an upper bound below, taking only these leaves next to none
SIZES = (2, 4, 8, 16)


def group_finding(
    outcome_PK: Floats,
    *,
    levels: Sequence[str] = (),
    true_PK: Floats | None = None,
    sft: str | None = None,
    verifier: str | None = None,
    more: Sequence[Row] = (),
) -> Finding:
    """The state of the groups, and what follows from it.

    Args:
        outcome_PK: scores by the training verifier, nan where missing.
        levels: the level of each problem; with more than one the shares are given for each.
        true_PK: scores by a stronger check.
        sft: the state of SFT's signal on this data, where it was measured.
        verifier: the state of the verifier, where it was measured.
        more: further rows, of a baseline run.
    """
    rows = _rows(outcome_PK, levels, true_PK)
    table = {row.name: row for row in rows}
    rows += more
    wrong, mixed, right = (table[name] for name in ("all_wrong", "mixed", "all_right"))
    left = (
        f"of groups of {outcome_PK.shape[1]} answers {said(wrong)} are all wrong, "
        f"{said(mixed)} mixed, {said(right)} all right"
    )
    health: Health = "out"
    if wrong.n == 0:
        words = "No group has all of its scores: nothing can be said of groups."
        return Finding("groups", "unknown", "between", words, rows)
    if wrong.ci_low > MOST:
        remedy, against = _all_wrong(table["accuracy"], wrong, mixed, sft, verifier)
        words = f"Most groups have no right answer: {left}. They move nothing."
        return Finding("groups", "all-wrong", health, words, rows, remedy, against)
    if right.ci_low > MOST:
        remedy = Advice("harder problems", f"{said(right)} of the groups are all right")
        why = "answers that are all right leave nothing to compare, whatever compares them"
        words = f"Most groups are all right: {left}. These problems are learnt."
        against = (Advice("any method on these problems", why),)
        return Finding("groups", "all-right", health, words, rows, remedy, against)
    if mixed.ci_low > MIXED:
        words = f"Groups have something to compare: {left}."
        return Finding("groups", "healthy", "well", words, rows)
    words = (
        f"Few groups are mixed, or too few were measured: {left}. More --problems or --samples "
        "narrow the intervals; other levels move the shares."
    )
    return Finding("groups", "thin", "between", words, rows)


def _all_wrong(
    accuracy: Row, wrong: Row, mixed: Row, sft: str | None, verifier: str | None
) -> tuple[Advice | None, tuple[Advice, ...]]:
    against: tuple[Advice, ...] = ()
    if mixed.ci_high < RARE:
        why = f"only {said(mixed)} of the groups have anything to compare"
        against = (Advice("grpo_dynamic, or more steps", why),)
    if verifier == "brittle":
        why = "the verifier rejects right answers: a penalty on rejected ones would fall on them"
        return None, (Advice("lens", why), *against)
    if accuracy.value > 0:
        why = (
            f"{said(wrong)} of the groups are all wrong, and right answers exist (accuracy "
            f"{said(accuracy)}). Where it was tried here, a small KL, easier levels or an entropy "
            "bonus did as much: the study has grpo with a KL beside it"
        )
        return Advice("lens", why), against
    why = (
        f"no answer to any of {accuracy.n} problems is right: it would rank wrong answers alone, "
        "which has destroyed a base with hardly any right answers here (docs/LOG.md)"
    )
    first = Advice("easier problems first", "there is no right answer to reinforce")
    if sft in ("alive", "fading"):
        first = Advice(
            "sft", f"no right answer to reinforce, and SFT on the solutions has signal ({sft})"
        )
    return first, (Advice("lens", why), *against)


def _rows(outcome_PK: Floats, levels: Sequence[str], true_PK: Floats | None) -> list[Row]:
    samples = outcome_PK.shape[1]
    accuracy = cluster(avg_at_k(outcome_PK))
    wrong, mixed, right = _shares(outcome_PK)
    lost = int(np.isnan(outcome_PK).any(axis=1).sum())
    none = _power(accuracy, samples, flip=True)
    every = _power(accuracy, samples, flip=False)
    rows = [
        row_of("accuracy", accuracy, f"mean score of {samples} answers to a problem"),
        row_of("all_wrong", wrong, "share of groups without a right answer"),
        row_of("all_wrong/expected", none, "if every problem had the mean accuracy"),
        row_of("mixed", mixed, "share of groups with something to compare"),
        row_of("all_right", right, "share of groups without a wrong answer"),
        row_of("all_right/expected", every, "if every problem had the mean accuracy"),
        point("incomplete", lost, len(outcome_PK), "groups with a missing score, in no class"),
    ]
    known_PK = np.where(np.isnan(outcome_PK), np.nan, outcome_PK > 0)
    for size in (g for g in SIZES if g <= samples):
        found = cluster(1 - pass_at_k(known_PK, size))
        rows.append(row_of(f"all_wrong/of_{size}", found, f"expected share in groups of {size}"))
    if true_PK is not None:
        truly, some, _ = _shares(true_PK)
        rows.append(row_of("all_wrong/true", truly, "by the stronger check"))
        rows.append(row_of("mixed/true", some, "by the stronger check"))
    names = list(dict.fromkeys(levels))
    for name in names if len(names) > 1 else ():
        wrong, mixed, _ = _shares(outcome_PK[[level == name for level in levels]])
        rows.append(row_of(f"all_wrong/level_{name}", wrong, "on this level"))
        rows.append(row_of(f"mixed/level_{name}", mixed, "on this level"))
    return rows


def _shares(outcome_PK: Floats) -> tuple[Interval, Interval, Interval]:
    """All wrong, mixed, all right, of the groups whose scores are all known."""
    kept_PK = outcome_PK[~np.isnan(outcome_PK).any(axis=1)]
    wrong = int((kept_PK == 0).all(axis=1).sum())
    right = int((kept_PK == 1).all(axis=1).sum())
    n = len(kept_PK)
    return wilson(wrong, n), wilson(n - wrong - right, n), wilson(right, n)


def _power(accuracy: Interval, samples: int, *, flip: bool) -> Interval:
    def power(p: float) -> float:
        return math.nan if math.isnan(p) else (1 - p if flip else p) ** samples

    low, high = power(accuracy.ci_low), power(accuracy.ci_high)
    return Interval(power(accuracy.value), high if flip else low, low if flip else high, accuracy.n)
