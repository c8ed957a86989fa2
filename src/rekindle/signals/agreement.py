"""Are a weak model's answers worth more where the strong model agrees?

Both answer P training problems greedily. Same: the canonical answers are equal. A problem on which
one of them has no canonical answer (of programs and formulas of a game nobody has) stays out.

    agree             share of answered problems on which both say the same
    unanswered        problems on which one of the two has no answer
    right/weak        accuracy of the weak model's answers, by the verifier
    right/agreed      the same where both agree: labels that consistency would keep
    right/gain        agreed minus all weak answers, bootstrap over problems
    right/own         accuracy of the model's own answers
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import CachedSampler
from rekindle.evals.intervals import LEVEL, RESAMPLES, Floats, Interval, wilson
from rekindle.records import Problem
from rekindle.rewards.answers import same_answer
from rekindle.signals.table import Advice, Finding, Row, point, row_of, said
from rekindle.tasks.task import Grader, Task, grade_all

ENOUGH = 32  # agreed answers


def measure_agreement(
    policy: Policy,
    weak: Policy,
    task: Task,
    grader: Grader,
    problems: Sequence[Problem],
    *,
    config: SampleConfig,
) -> Finding:
    """Both models answer greedily; what is the same, and what is right."""
    coldest = config.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    right, said_by = [], []
    for model in (policy, weak):
        found = CachedSampler(model).sample(problems, samples=1, config=coldest, seed=0)
        asked = [(rollout.problem, rollout.text) for rollout in found]
        scores = grade_all(grader, asked)
        right.append(np.array([math.nan if s.value is None else s.value for s in scores]))
        said_by.append([task.answer_of(problem, text) for problem, text in asked])
    both = list(zip(*said_by, strict=True))
    return agreement_finding(
        np.array([same_answer(mine, theirs) for mine, theirs in both]),
        weak_P=right[1],
        own_P=right[0],
        answered_P=np.array([mine is not None and theirs is not None for mine, theirs in both]),
    )


def agreement_finding(
    same_P: np.ndarray, *, weak_P: Floats, own_P: Floats, answered_P: np.ndarray | None = None
) -> Finding:
    """The state of weak labels.

    Args:
        same_P: bool, whether both say the same.
        weak_P, own_P: scores of both models' answers, nan where missing.
        answered_P: bool, whether both have a canonical answer; None: all.
    """
    there_P = np.ones(len(same_P), dtype=bool) if answered_P is None else answered_P
    same_P, weak_P = same_P[there_P], weak_P[there_P]
    silent = int((~there_P).sum())
    rows = [
        row_of("agree", wilson(int(same_P.sum()), len(same_P)), "both say the same, of answered"),
        _right("right/weak", weak_P, "the weak model's answers"),
        _right("right/agreed", weak_P[same_P], "its answers that the model agrees with"),
        row_of("right/gain", _gain(same_P, weak_P), "agreed minus all weak answers"),
        _right("right/own", own_P, "the model's own answers, to all problems"),
        point("unanswered", silent, len(there_P), "problems without an answer by one of the two"),
    ]
    if not there_P.any():
        words = (
            f"Agreement cannot be measured: on none of {silent} problems do both models have a "
            "canonical answer, which programs and games with many solutions do not have."
        )
        return Finding("agreement", "not-measurable", "between", words, rows)
    return _judged(rows)


def _judged(rows: list[Row]) -> Finding:
    _, weak, agreed, gain, own, _ = rows
    shown = f"the weak model's answers are right in {said(weak)}, the agreed ones in {said(agreed)}"
    labels = "Labels beyond the weak model's are assumed not to exist: with them, use them"
    if agreed.n < ENOUGH:
        words = f"Only {agreed.n} answers agree ({ENOUGH} are needed): {shown}."
        why = f"{agreed.n} agreed answers are too few to train on or to judge by"
        against = (Advice("weak_to_strong", why),)
        return Finding("agreement", "few", "between", words, rows, None, against)
    if not gain.ci_low > 0:
        words = f"Agreement does not pick the weak model's better answers: {shown}."
        against = (Advice("weak_to_strong", f"agreed minus all weak answers is {said(gain)}"),)
        return Finding("agreement", "no-gain", "between", words, rows, None, against)
    words = f"Agreement picks the weak model's better answers: {shown}, a gain of {said(gain)}."
    if not own.ci_high < agreed.ci_low:
        why = (
            f"the model is right in {said(own)} by itself, the agreed labels in {said(agreed)}: "
            "they are not surely better than what it says already"
        )
        against = (Advice("weak_to_strong", why),)
        return Finding("agreement", "nothing-to-learn", "well", words, rows, None, against)
    why = f"agreed labels are better by {said(gain)}. {labels}"
    if own.ci_low > weak.ci_high:
        why += ". The model is better than the weak one: compare w2s_self_training"
    return Finding("agreement", "filters", "well", words, rows, Advice("weak_to_strong", why))


def _right(name: str, values_P: Floats, words: str) -> Row:
    known = values_P[~np.isnan(values_P)]
    return row_of(name, wilson(float((known > 0.5).sum()), len(known)), words)


def _gain(same_P: np.ndarray, weak_P: Floats) -> Interval:
    """mean over the agreed - mean over all, over problems that have a verdict."""
    known = ~np.isnan(weak_P)
    same, right = same_P[known].astype(float), (weak_P[known] > 0.5).astype(float)
    n = len(right)
    if n == 0 or not same.any():
        return Interval(math.nan, math.nan, math.nan, n)
    value = float(right[same > 0].mean() - right.mean())
    rng = np.random.default_rng(0)
    drawn = rng.integers(n, size=(RESAMPLES, n), dtype=np.int32)
    kept = same[drawn].sum(axis=1)
    usable = kept > 0
    wins = (same * right)[drawn].sum(axis=1)[usable] / kept[usable]
    differences = wins - right[drawn].mean(axis=1)[usable]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)
