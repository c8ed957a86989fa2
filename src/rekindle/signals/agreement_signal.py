"""What would a model learn from a weak model's answers, where the two agree?

Both answer P training problems greedily. Same: the canonical answers are equal. A problem on which
one of them has no canonical answer (of programs and formulas of a game nobody has) stays out of
every row, as does one whose answers have no verdict.

    agree                   share of answered problems on which both say the same
    unanswered              problems on which one of the two has no answer
    right/weak, right/own   accuracy of the weak model's answers and of the model's own
    right/agreed            accuracy where both agree: the labels that consistency would keep
    right/picked            agreed minus all weak answers, bootstrap over problems
    right/sampled           the model's sampled answers to the agreed problems
    right/gain              agreed label minus sampled accuracy, paired over the agreed problems
    .../disagreed           accuracy of both where they disagree

Where both agree, the label is the model's own greedy answer. What training on it can raise is how
often the model gives that answer when it samples, so the gain is measured on the same problems:
its accuracy on others would only say that agreed problems are easier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import sampler_for
from rekindle.evals.intervals import RESAMPLES, Floats, Interval, cluster, percentiles, wilson
from rekindle.evals.passk import avg_at_k
from rekindle.records import Problem
from rekindle.rewards.answers import same_answer
from rekindle.signals.answers import sample_answers
from rekindle.signals.findings import Finding, Measurement, Sentences, by_name, point
from rekindle.tasks.task import Grader, Task

ENOUGH = 32  # agreed answers
_SAYS = Sentences("agreement")
WORTH = 0.1  # right/gain; a lower bound above. Two sound models sharpen each other by less


def measure_agreement(
    policy: Policy,
    weak: Policy,
    task: Task,
    grader: Grader,
    problems: Sequence[Problem],
    *,
    config: SampleConfig,
    sampled_PK: Floats,
    sft: str | None = None,
) -> Finding:
    """Both models answer greedily; what is the same, and what is right.

    Args:
        sampled_PK: scores of the model's sampled answers to the same problems.
        sft: as in `agreement_finding`.
    """
    coldest = config.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    own, other = (
        sample_answers(sampler_for(model), grader, problems, samples=1, config=coldest)
        for model in (policy, weak)
    )
    said = ([task.answer_of(problem, text) for problem, text in one.pairs] for one in (own, other))
    both = list(zip(*said, strict=True))
    return agreement_finding(
        np.array([same_answer(mine, theirs) for mine, theirs in both]),
        weak_P=np.array(other.accepted),
        own_P=np.array(own.accepted),
        sampled_P=avg_at_k(sampled_PK),
        answered_P=np.array([mine is not None and theirs is not None for mine, theirs in both]),
        sft=sft,
    )


def agreement_finding(
    same_P: np.ndarray,
    *,
    weak_P: Floats,
    own_P: Floats,
    sampled_P: Floats,
    answered_P: np.ndarray | None = None,
    sft: str | None = None,
) -> Finding:
    """The state of weak labels.

    Args:
        same_P: bool, whether both say the same.
        weak_P, own_P: scores of both models' answers, nan where missing.
        sampled_P: mean scores of the model's sampled answers.
        answered_P: bool, whether both have a canonical answer; None: all.
        sft: the state of SFT's signal on this data, where there are solutions and it has signal.
    """
    there_P = np.ones(len(same_P), dtype=bool) if answered_P is None else answered_P
    silent = int((~there_P).sum())
    agree = wilson(int(same_P[there_P].sum()), int(there_P.sum()))
    there_P = there_P & ~np.isnan(weak_P) & ~np.isnan(own_P)
    same_P, sampled_P = same_P[there_P], sampled_P[there_P]
    weak_P, own_P = weak_P[there_P], own_P[there_P]
    label_P = (weak_P[same_P] > 0.5).astype(float)
    gain = cluster(label_P - sampled_P[same_P], bounds=(-1.0, 1.0))
    rows = [
        Measurement("agree", *agree, "both say the same, of answered"),
        _right("right/weak", weak_P, "the weak model's answers"),
        _right("right/own", own_P, "the model's own answers, to the same problems"),
        _right("right/agreed", weak_P[same_P], "what both say, where they agree"),
        Measurement("right/picked", *_picked(same_P, weak_P), "agreed minus all weak answers"),
        Measurement(
            "right/sampled", *cluster(sampled_P[same_P]), "the model's samples, where they agree"
        ),
        Measurement("right/gain", *gain, "agreed minus sampled, where they agree"),
        _right("right/weak/disagreed", weak_P[~same_P], "the weak model's, where they disagree"),
        _right("right/own/disagreed", own_P[~same_P], "the model's own, where they disagree"),
        point("unanswered", silent, len(there_P), "problems without an answer by one of the two"),
    ]
    if agree.n == 0:
        return _SAYS.finding("not-measurable", rows, silent=silent)
    return _judged(rows, sft)


def _judged(rows: list[Measurement], sft: str | None) -> Finding:
    table = by_name(rows)
    agreed, picked, gain = (table[f"right/{name}"] for name in ("agreed", "picked", "gain"))
    if agreed.n < ENOUGH:
        name = "few"
    elif not picked.ci_low > 0:
        name = "no-gain"
    elif not gain.ci_low > WORTH:
        name = "nothing-to-learn"
    else:
        name = "filters" if sft is None else "labelled"
    shown = _SAYS.phrase("shown", rows=table)
    if table["right/weak/disagreed"].ci_low > table["right/own/disagreed"].ci_high:
        shown += f" {_SAYS.phrase('beyond', rows=table)}"
    advice = _SAYS.advice(name, rows=table, sft=sft, worth=WORTH)
    remedy, against = (advice, ()) if name == "filters" else (None, (advice,))
    return _SAYS.finding(name, rows, remedy=remedy, against=against, shown=shown, enough=ENOUGH)


def _right(name: str, values_P: Floats, meaning: str) -> Measurement:
    return Measurement(name, *wilson(float((values_P > 0.5).sum()), len(values_P)), meaning)


def _picked(same_P: np.ndarray, weak_P: Floats) -> Interval:
    """mean over the agreed - mean over all; without bounds where no draw could differ."""
    same, right = same_P.astype(float), (weak_P > 0.5).astype(float)
    n = len(right)
    if n == 0 or not same.any():
        return Interval(math.nan, math.nan, math.nan, n)
    value = float(right[same > 0].mean() - right.mean())
    if same.all() or np.ptp(right) == 0:
        return Interval(value, math.nan, math.nan, n)
    rng = np.random.default_rng(0)
    drawn = rng.integers(n, size=(RESAMPLES, n), dtype=np.int32)
    kept = same[drawn].sum(axis=1)
    usable = kept > 0
    wins = (same * right)[drawn].sum(axis=1)[usable] / kept[usable]
    return Interval(value, *percentiles(wins - right[drawn].mean(axis=1)[usable]), n)
