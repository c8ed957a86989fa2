"""pass@k, avg@k and maj@k of one problem from its scored samples.

Axes: P problems, K samples. Outcomes are 0, 1 (or a partial score), nan where a score is missing;
missing outcomes stay out of every count. Undefined is nan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rekindle.evals.intervals import Floats


def pass_at_k(outcome_PK: Floats, k: int) -> Floats:
    """Chance that at least one of k answers, drawn without replacement, is right, per problem.

    1 - C(n - c, k) / C(n, k) in product form (Chen et al. 2021, eq. 1), with n scored and c right
    samples of the problem. Unbiased. nan where n < k. Partial scores count as wrong.
    """
    n_P = np.sum(~np.isnan(outcome_PK), axis=1)
    c_P = np.sum(outcome_PK == 1, axis=1)
    values = np.full(len(outcome_PK), np.nan)
    for p, (n, c) in enumerate(zip(n_P.tolist(), c_P.tolist(), strict=True)):
        if n < k:
            continue
        i = np.arange(n - c + 1, n + 1)
        values[p] = 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / i))
    return values


def avg_at_k(outcome_PK: Floats) -> Floats:
    """Mean score of each problem's samples; nan where none is scored."""
    n_P = np.sum(~np.isnan(outcome_PK), axis=1)
    total_P = np.nansum(outcome_PK, axis=1)
    return np.where(n_P > 0, total_P / np.maximum(n_P, 1), np.nan)


def maj_at_k(outcome_PK: Floats, answers: Sequence[Sequence[str | None]]) -> Floats:
    """Score of the most frequent answer of each problem.

    Samples without an answer do not vote. Answers that tie share the credit. nan where nobody votes
    or no score is known for a leading answer.
    """
    return np.array(
        [_majority(outcomes, given) for outcomes, given in zip(outcome_PK, answers, strict=True)]
    )


def _majority(outcomes: Floats, answers: Sequence[str | None]) -> float:
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return float("nan")
    most = max(votes.values())
    credits = []
    for answer, count in votes.items():
        if count == most:
            scores = [o for o, a in zip(outcomes, answers, strict=True) if a == answer and o == o]
            credits.append(float(np.mean(scores)) if scores else float("nan"))
    return float(np.mean(credits))
