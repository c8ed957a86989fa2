"""What the rounds of a self-rewarding run say of its pairs and its judge.

    run/gap          chosen minus rejected score of the judge, first round and last; the interval
                     is over the round's pairs, where the run has kept them
    run/gap_kept     the last over the first; bootstrap over the pairs of both rounds, and only
                     where both have theirs
    run/similarity   edit similarity of the round's pairs, one number
    run/judge_auc    how well the judge told right from wrong, first round and last: Hanley and
                     McNeil's (1982) standard error on as many answers as the round has prompts,
                     for the answers to a prompt share its fate

Axes: N pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from rekindle.evals.intervals import LEVEL, Floats, Interval, cluster, percentiles, resampled_means
from rekindle.signals.findings import Measurement

FEW = 8  # pairs of a round; with fewer the gap that is left has no interval
ONE = "one number, no interval"


class JudgedRound(NamedTuple):
    """One round as the run has logged it; None or empty: not logged.

    `gap`, `similarity`: means over the round's pairs; `gaps`: the gap of each pair; `auc`: of the
    judge, on `prompts` judged prompts with a share `right` of right answers.
    """

    gap: float | None = None
    similarity: float | None = None
    auc: float | None = None
    right: float | None = None
    gaps: Sequence[float] = ()
    prompts: int | None = None


def round_rows(rounds: Sequence[JudgedRound]) -> list[Measurement]:
    """Rows on the first round and the last one that have a number; none where only one has."""
    gaps = [(one, _gap(one.gap, one.gaps)) for one in rounds if one.gap is not None]
    similarities = [_bare(one.similarity) for one in rounds if one.similarity is not None]
    aucs = [auc_of(one.auc, one.right, one.prompts) for one in rounds if one.auc is not None]
    rows = _first_and_last("gap", [gap for _, gap in gaps], "judge's score, chosen - rejected")
    if rows and gaps[0][0].gaps and gaps[-1][0].gaps:
        first, last = (np.array(gaps[i][0].gaps) for i in (0, -1))
        rows.append(Measurement("run/gap_kept", *_kept(first, last), "last gap over first"))
    rows += _first_and_last("similarity", similarities, "edit similarity of the round's pairs")
    return rows + _first_and_last("judge_auc", aucs, "right above wrong, by the judge")


def _first_and_last(name: str, intervals: Sequence[Interval], meaning: str) -> list[Measurement]:
    rows = []
    if len(intervals) > 1:
        for when, interval in (("first", intervals[0]), ("last", intervals[-1])):
            bare = f", {ONE}" if math.isnan(interval.ci_low) else ""
            text = f"{meaning}, {when} round{bare}"
            rows.append(Measurement(f"run/{name}_{when}", *interval, text))
    return rows


def _gap(mean: float, gaps: Sequence[float]) -> Interval:
    return cluster(np.array(gaps), bounds=(-math.inf, math.inf)) if gaps else _bare(mean)


def _bare(value: float) -> Interval:
    return Interval(value, math.nan, math.nan, 1)


def auc_of(value: float, right: float | None, prompts: int | None) -> Interval:
    """An AUC that is known as one number, of so many prompts with that share of right answers."""
    good = 0.0 if right is None or prompts is None else right * prompts
    bad = 0.0 if right is None or prompts is None else prompts - good
    if min(good, bad) < 2 or value in (0.0, 1.0):  # at 0 and 1 the formula's error is 0
        return Interval(value, math.nan, math.nan, prompts or 1)
    one, both = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (good - 1) * (one - value**2) + (bad - 1) * (both - value**2)
    reach = float(stats.norm.ppf(0.5 + LEVEL / 2)) * math.sqrt(spread / (good * bad))
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach), prompts or 1)


def _kept(first_N: Floats, last_N: Floats) -> Interval:
    """mean(last) / mean(first): no prompt is in both rounds, so each is drawn by itself."""
    n = min(len(first_N), len(last_N))
    nothing = first_N.mean() <= 0
    value = math.nan if nothing else float(last_N.mean() / first_N.mean())
    if n < FEW or nothing:
        return Interval(value, math.nan, math.nan, n)
    rng = np.random.default_rng(0)
    first_K, last_K = (resampled_means(values, rng) for values in (first_N, last_N))
    if not (first_K > 0).all() or np.ptp(first_N) == np.ptp(last_N) == 0:  # no draw differs
        return Interval(value, math.nan, math.nan, n)
    return Interval(value, *percentiles(last_K / first_K), n)
