"""Metrics over steps: columns by the names that trainers have for them, and means with intervals.

Values of neighbouring steps hang together. An interval is over the means of at most `BLOCKS` blocks
of steps that follow each other, with a t quantile: it holds where the correlation is shorter than a
block. Of simulated series without a trend, correlated by rho from step to step, `change` leaves 0
out of its interval in (`tests/signals/run_diagnosis/test_series.py`)

    steps   rho 0   0.5   0.8   0.95
    60      3 %     6     24    54
    300     4       6     10    35
    1,000   4       4     5     14
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from rekindle.signals.logs.lines import HUGE
from rekindle.signals.run_diagnosis.log_finding import LEVEL, UNDEFINED, Estimate, Floats, rare

BLOCKS = 10
LEAST = 3  # steps of a block
NAMES = {
    "reward": ("reward", "critic/score/mean", "reward/mean", "scores", "avg_score"),
    "reward_std": ("reward_std",),
    "reward_max": ("critic/score/max",),
    "reward_min": ("critic/score/min",),
    "zero_std": ("frac_reward_zero_std", "generated/no_spread"),
    "all_wrong": ("agg/all/solved_none", "generated/all_wrong"),
    "all_right": ("agg/all/solved_all", "generated/all_right"),
    "gen_batches": ("num_gen_batches",),
    "rate": ("learning_rate", "actor/lr", "lr", "actor_lr", "optim/lr"),
    "grad_norm": ("grad_norm", "actor/grad_norm", "optim/grad_norm", "policy/grad_norm"),
    "entropy": ("entropy", "actor/entropy", "actor/entropy_loss", "entropy/mean", "approx_entropy"),
    "clipped": ("clip_ratio/region_mean", "clip_ratio", "actor/pg_clipfrac", "clipfrac"),
    "cut": ("completions/clipped_ratio", "response_length/clip_ratio", "truncation_rate"),
}


@dataclass(frozen=True, eq=False)
class Series:
    """One metric over the steps that have it, [T] each."""

    name: str
    step_T: Floats
    value_T: Floats

    def __len__(self) -> int:
        return len(self.step_T)

    def finite(self) -> Series:
        """Without steps whose value is not a finite number."""
        kept = np.isfinite(self.value_T)
        return Series(self.name, self.step_T[kept], self.value_T[kept])


def find_series(history: Sequence[Mapping[str, float]], what: str) -> Series:
    """A metric by any of its `NAMES`, with or without `train/` before it; empty: not logged.

    Rows of evaluations, which repeat a step, are passed over.
    """
    for name in NAMES[what]:
        for full in (name, f"train/{name}"):
            pairs = [(row["step"], row[full]) for row in history if full in row]
            if pairs:
                steps, values = np.array(pairs, dtype=np.float64).T
                beyond = np.abs(values) > HUGE
                return Series(full, steps, np.where(beyond, np.copysign(np.inf, values), values))
    return Series(NAMES[what][0], np.zeros(0), np.zeros(0))


def together(*columns: Series) -> tuple[Floats, ...]:
    """The values of several metrics at the steps that all have; finite ones alone."""
    common = columns[0].step_T
    for column in columns[1:]:
        common = np.intersect1d(common, column.step_T)
    values = [dict(zip(c.step_T.tolist(), c.value_T.tolist(), strict=True)) for c in columns]
    rows = np.array([[value[step] for value in values] for step in common.tolist()])
    rows = rows.reshape(-1, len(columns))
    return tuple(rows[np.isfinite(rows).all(axis=1)].T)


def block_mean(value_T: Floats, *, bounded: bool = False) -> Estimate:
    """The mean over steps, and its interval over blocks of them; n is the number of steps.

    Args:
        bounded: it is a share. One that is 0 or 1 at all steps has the bound that Wilson's interval
            gives as many draws as there are blocks.
    """
    value_T = value_T[np.isfinite(value_T)]
    if not len(value_T):
        return UNDEFINED
    value, half = float(value_T.mean()), _half(value_T)
    low, high = value - half, value + half
    if bounded:
        bound = rare(min(BLOCKS, len(value_T)))
        low = 1 - bound if value == 1 else max(low, 0.0)
        high = bound if value == 0 else min(high, 1.0)
    return Estimate(value, low, high, len(value_T))


def change(value_T: Floats) -> Estimate:
    """The mean of the last third of the steps minus that of the first; n is the steps of both."""
    value_T = value_T[np.isfinite(value_T)]
    third = len(value_T) // 3
    if not third:
        return UNDEFINED
    first_T, last_T = value_T[:third], value_T[-third:]
    value = float(last_T.mean() - first_T.mean())
    half = math.hypot(_half(first_T), _half(last_T))
    return Estimate(value, value - half, value + half, 2 * third)


def _half(value_T: Floats) -> float:
    """Half of the interval of a mean; nan with fewer than two blocks."""
    count = min(BLOCKS, len(value_T) // LEAST)
    if count < 2:
        return math.nan
    means = np.array([block.mean() for block in np.array_split(value_T, count)])
    error = float(means.std(ddof=1)) / math.sqrt(count)
    return float(special.stdtrit(count - 1, 0.5 + LEVEL / 2)) * error
