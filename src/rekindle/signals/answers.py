"""Sampled answers to training problems, and what verifiers say of each.

One entry an answer, problem by problem, `samples` of each. nan: missing, which is never 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rekindle.engine.config import SampleConfig
from rekindle.engine.sampler import Sampler
from rekindle.evals.intervals import Floats, wilson
from rekindle.loops.rollouts import known
from rekindle.records import Problem
from rekindle.signals.findings import Measurement
from rekindle.tasks.task import Grader, grade_all


class Answers(NamedTuple):
    """`accepted`: the training verifier's score; `true`: the stronger check's, None without one."""

    pairs: list[tuple[Problem, str]]
    samples: int
    accepted: list[float]
    true: list[float] | None
    missing: Counter[str]  # reasons
    cut: list[float]  # 1 where the limit ended the answer

    def ids(self) -> list[str]:
        """The problem of each answer."""
        return [problem.id for problem, _ in self.pairs]

    def levels(self) -> list[str]:
        """The level of each problem."""
        return [problem.level for problem, _ in self.pairs[:: self.samples]]

    def table(self, values: Sequence[float]) -> Floats:
        """One entry an answer -> problems x samples."""
        return np.array(values, dtype=np.float64).reshape(-1, self.samples)


def sample_answers(
    sampler: Sampler,
    grader: Grader,
    problems: Sequence[Problem],
    *,
    samples: int,
    config: SampleConfig,
    check: Grader | None = None,
) -> Answers:
    """`samples` answers to each problem, graded as by `verdicts`."""
    rollouts = sampler.sample(problems, samples=samples, config=config, seed=0)
    pairs = [(rollout.problem, rollout.text) for rollout in rollouts]
    cut = [float(rollout.finish == "length") for rollout in rollouts]
    return Answers(pairs, samples, *verdicts(grader, pairs, check=check), cut)


def verdicts(
    grader: Grader, pairs: Sequence[tuple[Problem, str]], *, check: Grader | None
) -> tuple[list[float], list[float] | None, Counter[str]]:
    """`accepted`, `true` and `missing` of `Answers`.

    `true` is what `check` says; without one, the part of that name of the scores.
    """
    scores = grade_all(grader, pairs)
    parts = [score.parts.get("true") for score in scores]
    if check is not None:
        parts = [score.value for score in grade_all(check, pairs)]
    true = None if all(part is None for part in parts) else [known(part) for part in parts]
    reasons = Counter(score.reason for score in scores if score.reason is not None)
    return [known(score.value) for score in scores], true, reasons


def share_row(
    name: str, of: Sequence[float], given: Sequence[float], problem: Sequence[str], meaning: str
) -> Measurement:
    """Share of `of` among the answers for which `given`, see `verifier` for its interval."""
    kept = [
        (key, value > 0.5)
        for value, condition, key in zip(of, given, problem, strict=True)
        if condition > 0.5 and not math.isnan(value)
    ]
    if not kept:
        return Measurement(name, *wilson(0, 0), meaning)
    entered = Counter(key for key, _ in kept)
    outcomes = max(1, len(kept) ** 2 // sum(m * m for m in entered.values()))
    share = sum(good for _, good in kept) / len(kept)
    interval = wilson(share * outcomes, outcomes)
    return Measurement(name, *interval._replace(n=len(entered)), meaning)
