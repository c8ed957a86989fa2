"""How much of a run its log shows: steps on disk, rows written twice, evaluations, filtered groups.

Groups that were filtered out before the log was written leave a trace. Of a group of G answers to a
prompt that is solved with chance q, k are right with probability C(G, k) q^k (1 - q)^(G - k).
Whatever the mixture of q over prompts, m_k = P(k) / C(G, k) = E[q^k (1 - q)^(G - k)] is log-convex
in k (Cauchy-Schwarz), so that what is seen of mixed groups bounds what must be there of dead ones:

    m_0 >= m_1^2 / m_2        m_G >= m_{G-1}^2 / m_{G-2}

Fewer dead groups than that, by a Poisson test on the bound's own lower limit, were removed:
all-wrong ones, all-right ones, or both, three tests in one. The null: nothing was removed, and
answers to a prompt are independent.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from rekindle.signals.logs.run_log import Floats, Ints, RunLog
from rekindle.signals.run_diagnosis.groups import GroupTable
from rekindle.signals.run_diagnosis.log_finding import Estimate, LogFinding, mean

ALARM = 0.01  # p below which groups are said to have been removed
NULL = (
    "nothing was removed and answers to a prompt are independent: dead groups are Poisson with at "
    f"least the mean that mixed groups imply; named at p < {ALARM}"
)
DRAWS = 400  # of a bootstrap over prompts


def coverage_findings(log: RunLog, table: GroupTable) -> list[LogFinding]:
    """What of the run is on disk, and which rows are no data."""
    count = len(log)
    known = log.step_N[log.step_N >= 0]
    logged = len(np.unique(known))
    found = []
    taken = log.about.steps_taken
    if taken:
        taken = max(taken, int(known.max(initial=0)))  # a state may be older than the rows
        share = Estimate(min(1.0, logged / taken), math.nan, math.nan, taken)
        text = f"{logged} of the {taken} steps that the trainer took have rows on disk"
        found.append(LogFinding.of("coverage/steps", share, text, "the trainer's state"))
    for name, rows_N, text in (
        ("repeated", log.repeated_N, "rows of batches that were written before, left out"),
        ("evaluation", log.evaluation_N, "rows of evaluations, left out"),
        ("unsaid", log.evaluation_N, "rows of evaluations of which the log does not say so"),
        (
            "filtered",
            log.trained_N == 0,
            "rows that were filtered out before the update; they are in the log, and in its shares",
        ),
    ):
        rows = int(rows_N.sum())
        if name == "unsaid":
            rows -= log.said_evaluation
        if rows:
            share = Estimate(rows / count, math.nan, math.nan, count)
            found.append(LogFinding.of(f"coverage/{name}", share, f"{rows} {text}", "all rows"))
    missing = np.isnan(log.score_N[log.data_N]).astype(np.float64)
    if missing.any():
        estimate = mean(missing, log.prompt_N[log.data_N], bounded=True)
        text = "answers without a score, in no share and no mean"
        found.append(LogFinding.of("coverage/unscored", estimate, text, "rows of training"))
    found += _several_prompts(log, table)
    sizes = np.unique(table.size_P)
    if len(sizes) > 1:
        odd = (table.size_P != table.usual_size).astype(np.float64)
        estimate = mean(odd, table.prompt_P, bounded=True)
        text = f"groups of another size than {table.usual_size}: {sizes.min()} to {sizes.max()}"
        found.append(LogFinding.of("coverage/uneven", estimate, text, f"{len(table)} groups"))
    return [*found, *removed_findings(table)]


def _several_prompts(log: RunLog, table: GroupTable) -> list[LogFinding]:
    """Groups, as the log names them, whose answers are to different prompts."""
    rows = np.flatnonzero(table.row_N >= 0)
    place = table.row_N[rows]
    other = log.prompt_N[rows] != table.prompt_P[place]
    mixed_P = np.zeros(len(table))
    mixed_P[place[other]] = 1.0
    if not mixed_P.any():
        return []
    estimate = mean(mixed_P, table.prompt_P, bounded=True)
    text = "groups whose answers are to different prompts: training compared them all the same"
    return [LogFinding.of("coverage/several_prompts", estimate, text, f"{len(table)} groups")]


def removed_findings(table: GroupTable) -> list[LogFinding]:
    """Whether dead groups are fewer than the mixed ones imply."""
    size = table.usual_size
    whole = (table.size_P == size) & (table.known_P == size)
    if size < 4 or whole.sum() < 20:
        return []
    right, prompts = table.right_P[whole], table.prompt_P[whole]
    _, number = np.unique(prompts, return_inverse=True)
    count_K = np.bincount(right, minlength=size + 1)
    implied, low = implied_dead(count_K, size), _lower(right, number, size)
    dead_S = np.array([count_K[0], count_K[size], count_K[0] + count_K[size]])
    p_S = np.where(low > 0, special.pdtr(dead_S, low), 1.0)
    side = int(p_S.argmin())
    return [
        _removed(side, int(dead_S[side]), implied[side], low[side], p_S[side], len(right), size)
    ]


_SIDES = ("all wrong", "all right", "all wrong or all right")


def _removed(
    side: int, dead: int, implied: float, low: float, p: float, total: int, size: int
) -> LogFinding:
    p = min(1.0, len(_SIDES) * p)
    text = (
        f"{dead} of {total} groups are {_SIDES[side]}, and the mixed ones imply at least "
        f"{implied:.0f} (no fewer than {low:.0f}): p {p:.2g}"
    )
    value = max(0.0, (implied - dead) / (total + max(0.0, implied - dead)))
    estimate = Estimate(value, 0.0 if p >= ALARM else (low - dead) / (total + low), math.nan, total)
    rests = f"{total} whole groups of {size}"
    return LogFinding("coverage/removed", *estimate, text, rests, NULL, p)


def implied_dead(count_K: Ints | Floats, size: int) -> Floats:
    """Dead groups that the mixed ones imply at the least: all-wrong ones, all-right ones, both.

    Args:
        count_K: [size + 1] how many groups have k right answers.
    """
    wrong, right = _side(count_K, size), _side(count_K[::-1], size)
    return np.array([wrong, right, wrong + right])


def _side(count_K: Ints | Floats, size: int) -> float:
    one, two = count_K[1] / size, count_K[2] / math.comb(size, 2)
    return float(one * one / two) if two > 0 else 0.0


def _lower(right: Ints, number: Ints, size: int) -> Floats:
    """The 5 % quantiles of the implied counts, over draws of prompts."""
    prompts = int(number.max()) + 1
    table = np.zeros((prompts, size + 1))
    np.add.at(table, (number, right), 1)
    rng = np.random.default_rng(0)
    drawn: Floats = np.empty((DRAWS, len(_SIDES)))
    for i in range(DRAWS):
        picks = np.bincount(rng.integers(prompts, size=prompts), minlength=prompts)
        drawn[i] = implied_dead((picks @ table).astype(np.int64), size)
    return np.asarray(np.quantile(drawn, 0.05, axis=0))
