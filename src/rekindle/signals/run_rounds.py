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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from rekindle.evals.intervals import LEVEL, RESAMPLES, Floats, Interval, cluster
from rekindle.signals.table import Row, row_of

FEW = 8  # pairs of a round; with fewer the gap that is left has no interval
ONE = "one number, no interval"
_KINDS = {
    "gap": ("pairs/gap", "judge's score, chosen - rejected"),
    "similarity": ("pairs/similarity", "edit similarity of the round's pairs"),
    "judge_auc": ("judge/auc", "right above wrong, by the judge"),
}


def round_rows(rounds: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows on the first round and the last one that have a number; none where only one has."""
    rows = []
    for name, (key, words) in _KINDS.items():
        known = [row for row in rounds if row.get(key) is not None]
        if len(known) < 2:
            continue
        for when, one in (("first", known[0]), ("last", known[-1])):
            found = _interval(name, one[key], one)
            bare = f", {ONE}" if math.isnan(found.ci_low) else ""
            rows.append(row_of(f"run/{name}_{when}", found, f"{words}, {when} round{bare}"))
        if name == "gap" and known[0].get("gaps") and known[-1].get("gaps"):
            first, last = (np.array(row["gaps"]) for row in (known[0], known[-1]))
            rows.append(row_of("run/gap_kept", _kept(first, last), "last gap over first"))
    return rows


def _interval(name: str, value: float, row: Mapping[str, Any]) -> Interval:
    if name == "gap" and row.get("gaps"):
        return cluster(np.array(row["gaps"]), bounds=(-math.inf, math.inf))
    if name == "judge_auc":
        return auc_of(value, row.get("judge/right"), row.get("prompts"))
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
    means = [
        values[rng.integers(len(values), size=(RESAMPLES, len(values)), dtype=np.int32)].mean(
            axis=1
        )
        for values in (first_N, last_N)
    ]
    if not (means[0] > 0).all() or np.ptp(first_N) == np.ptp(last_N) == 0:  # no draw differs
        return Interval(value, math.nan, math.nan, n)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means[1] / means[0], [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)
